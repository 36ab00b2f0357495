#include "data/token_source.h"

#include <filesystem>

#include "core/error.h"
#include "data/dataset_manifest.h"
#include "data/indexed_dataset.h"
#include "data/input_list.h"
#include "data/token_shards.h"

namespace trireme {
namespace {

bool exists(const std::string& path) {
    std::error_code error;
    return std::filesystem::exists(path, error);
}

bool is_pattern(const std::string& path) {
    return path.find_first_of("*?[") != std::string::npos;
}

}  // namespace

std::string_view name_of(DataFormat format) {
    switch (format) {
        case DataFormat::automatic:
            return "auto";
        case DataFormat::megatron:
            return "megatron";
        case DataFormat::nanogpt:
            return "nanogpt";
        case DataFormat::llmc:
            return "llmc";
    }
    return "?";
}

DataFormat data_format_of(std::string_view name) {
    for (const DataFormat format : kDataFormats) {
        if (name == name_of(format)) return format;
    }
    throw Error(ExitCode::config, "data format: found '" + std::string(name) +
                                      "', expected auto, megatron, nanogpt or llmc");
}

DataFormat format_of(const DataSourceOptions& source) {
    if (source.format != DataFormat::automatic) return source.format;
    if (exists(source.path + ".idx") || exists(source.path + ".bin")) return DataFormat::megatron;
    if (!exists(source.path) && !is_pattern(source.path)) return DataFormat::megatron;
    if (std::filesystem::is_directory(source.path)) {
        throw Error(
            ExitCode::bad_data,
            "dataset " + source.path +
                ": found a folder, expected the prefix of a dataset in it (the path without "
                ".bin and .idx), or token files such as " +
                (std::filesystem::path(source.path) / "*.bin").string());
    }
    const std::string first = list_inputs({source.path}).front();
    if (has_llmc_mark(first)) return DataFormat::llmc;
    if (first.ends_with(".bin") || first.ends_with(".idx")) {
        const std::string prefix = first.substr(0, first.size() - 4);
        if (exists(prefix + ".bin") && exists(prefix + ".idx")) {
            throw Error(ExitCode::bad_data,
                        first +
                            ": found one of the two files of a dataset, expected their prefix; "
                            "give " +
                            prefix);
        }
    }
    throw Error(ExitCode::bad_data,
                first +
                    ": the format cannot be told: found no .idx beside it and no mark of "
                    "llm.c in it; give the prefix of a Megatron dataset (the path without "
                    ".bin), or format: nanogpt for uint16 tokens and nothing else");
}

std::vector<std::string> files_of(const DataSourceOptions& source) {
    if (format_of(source) == DataFormat::megatron) {
        return {source.path + ".bin", source.path + ".idx"};
    }
    return list_inputs({source.path});
}

std::unique_ptr<TokenSource> open_tokens(const DataSourceOptions& source, int64_t vocab_size) {
    const DataFormat format = format_of(source);
    if (format == DataFormat::megatron) {
        auto dataset = std::make_unique<IndexedDataset>(source.path);
        if (vocab_size != kAnyVocab) check_vocabulary(source.path, vocab_size);
        return dataset;
    }
    return std::make_unique<TokenShards>(source.path, files_of(source), format);
}

}  // namespace trireme
