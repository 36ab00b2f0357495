#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/commands.h"
#include "app/config_problems.h"
#include "app/progress_line.h"
#include "app/readable.h"
#include "app/standard_output.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "data/dataset_manifest.h"
#include "data/describe.h"
#include "data/token_source.h"
#include "parallel/checkpoint_folders.h"
#include "parallel/checkpoint_manifest.h"
#include "parallel/checkpoint_reader.h"
#include "parallel/mesh_json.h"

namespace trireme {

using Json = nlohmann::ordered_json;

namespace {

// What was found, for people and for programs, and what is wrong with it.
struct Report {
    std::vector<std::pair<std::string, std::string>> lines;  // label, value
    std::vector<std::vector<std::string>> table;             // first row: column names
    Json json;
    std::vector<std::string> faults;
};

Report inspect_checkpoint(const std::string& path, bool verify) {
    Report report;
    std::vector<std::string> skipped;
    CheckpointReader reader(resolve_checkpoint(path, &skipped));
    const CheckpointState& state = reader.state();
    const Manifest& manifest = reader.manifest();

    uint64_t file_bytes = 0;
    Json files = Json::array();
    for (const ManifestFile& file : manifest.files) {
        file_bytes += file.bytes;
        files.push_back({{"name", file.name}, {"bytes", file.bytes}});
    }
    Json tensors = Json::array();
    uint64_t elements = 0;
    report.table.push_back({"tensor", "type", "shape", "pieces"});
    for (const auto& [name, tensor] : manifest.tensors) {
        elements += tensor.elements();
        const std::string type(name_of(tensor.dtype));
        Json shape = {tensor.global[0], tensor.global[1]};
        if (tensor.is_vector) shape = Json::array({tensor.global[1]});
        tensors.push_back(
            {{"name", name}, {"dtype", type}, {"shape", shape}, {"pieces", tensor.pieces.size()}});
        report.table.push_back(
            {name, type, tensor.shape_text(), std::to_string(tensor.pieces.size())});
    }

    report.lines = {
        {"checkpoint", reader.folder()},
        {"step", with_commas(static_cast<uint64_t>(state.step))},
        {"tokens", with_commas(static_cast<uint64_t>(state.tokens))},
        {"samples", with_commas(static_cast<uint64_t>(state.samples))},
        {"written by", state.mesh.to_string()},
        {"files", with_commas(manifest.files.size()) + ", " + readable_bytes(file_bytes)},
        {"tensors",
         with_commas(manifest.tensors.size()) + ", " + with_commas(elements) + " elements"}};
    for (const std::string& reason : skipped) report.lines.emplace_back("skipped", reason);
    report.json = {
        {"kind", "checkpoint"},   {"path", reader.folder()},  {"step", state.step},
        {"tokens", state.tokens}, {"samples", state.samples}, {"mesh", json_of<Json>(state.mesh)},
        {"bytes", file_bytes},    {"elements", elements},     {"files", files},
        {"tensors", tensors},     {"config", state.config},   {"extra", state.extra},
        {"skipped", skipped},
    };
    if (verify) {
        ProgressLine progress("verifying");
        report.faults = reader.verify(std::ref(progress));
        report.faults.insert(report.faults.end(), skipped.begin(), skipped.end());
        if (report.faults.empty()) {
            report.lines.emplace_back("verified", "all checksums match");
        }
    }
    return report;
}

Report inspect_safetensors(const std::string& path, bool verify) {
    Report report;
    const File file = File::open(path);
    const SafetensorsHeader header = read_safetensors_header(file);
    Json tensors = Json::array();
    uint64_t elements = 0;
    report.table.push_back({"tensor", "type", "shape"});
    for (const SafetensorsEntry& entry : header.entries) {
        const std::string type(name_of(entry.dtype));
        elements += entry.bytes() / size_of(entry.dtype);
        tensors.push_back({{"name", entry.name}, {"dtype", type}, {"shape", entry.shape}});
        report.table.push_back({entry.name, type, shape_text(entry.shape)});
    }
    const uint64_t bytes = header.data_offset + header.data_bytes;
    report.lines = {{"safetensors", path},
                    {"size", readable_bytes(bytes)},
                    {"tensors", with_commas(header.entries.size()) + ", " + with_commas(elements) +
                                    " elements"}};
    for (const auto& [key, value] : header.metadata) report.lines.emplace_back(key, value);
    report.json = {{"kind", "safetensors"}, {"path", path},       {"bytes", bytes},
                   {"elements", elements},  {"tensors", tensors}, {"metadata", header.metadata}};
    if (verify) {
        ProgressLine progress("verifying");
        std::vector<char> chunk(size_t{1} << 20);
        for (uint64_t at = 0; at < bytes; at += chunk.size()) {
            file.read_all(chunk.data(), std::min<uint64_t>(chunk.size(), bytes - at), at);
            progress(at, bytes);
        }
        report.lines.emplace_back("verified", "every byte is readable (the file has no checksums)");
    }
    return report;
}

// What the manifest of a dataset knows of its ids, unless another program has written the dataset
// anew since. One that is damaged hides nothing of what the dataset itself tells.
void add_vocabulary(const DatasetSummary& summary, Report& report) {
    std::optional<DatasetManifest> manifest;
    try {
        manifest = read_manifest(summary.path);
    } catch (const Error& error) {
        report.faults.emplace_back(error.what());
    }
    if (!manifest || manifest->bin.bytes != summary.bytes) return;
    report.lines.emplace_back("vocabulary",
                              with_commas(static_cast<uint64_t>(manifest->vocab_size)) +
                                  " ids, the largest that occurs is " +
                                  std::to_string(manifest->largest_id));
    report.lines.emplace_back("tokenizer", shown(manifest->tokenizer));
    report.json["vocab_size"] = manifest->vocab_size;
    report.json["largest_token"] = manifest->largest_id;
    report.json["tokenizer"] = manifest->tokenizer;
}

Report inspect_dataset(const DataSourceOptions& source, bool verify) {
    Report report;
    const auto progress = [line = std::make_shared<ProgressLine>("reading")](int64_t done,
                                                                             int64_t total) {
        (*line)(static_cast<uint64_t>(done), static_cast<uint64_t>(total));
    };
    const DatasetSummary summary = describe_dataset(source, progress);
    const auto count = [](int64_t value) { return with_commas(static_cast<uint64_t>(value)); };
    const std::string lengths = count(summary.shortest_sequence) + " to " +
                                count(summary.longest_sequence) + " tokens long";
    report.lines = {{"dataset", summary.path},
                    {"format", summary.format + ", " + count(summary.files) +
                                   (summary.files == 1 ? " file" : " files")},
                    {"tokens", count(summary.tokens) + " of type " + summary.token_type}};
    if (summary.end_of_text) {
        report.lines.emplace_back("documents", count(summary.documents) + ", " + lengths +
                                                   ", told by the end of text " +
                                                   std::to_string(*summary.end_of_text));
    } else {
        report.lines.emplace_back("documents", count(summary.documents));
        report.lines.emplace_back("sequences", count(summary.sequences) + ", " + lengths);
    }
    report.lines.emplace_back("size", readable_bytes(static_cast<uint64_t>(summary.bytes)));
    report.json = {{"kind", "dataset"},
                   {"path", summary.path},
                   {"format", summary.format},
                   {"files", summary.files},
                   {"token_type", summary.token_type},
                   {"tokens", summary.tokens},
                   {"documents", summary.documents},
                   {"sequences", summary.sequences},
                   {"shortest_sequence", summary.shortest_sequence},
                   {"longest_sequence", summary.longest_sequence},
                   {"bytes", summary.bytes}};
    if (summary.end_of_text) report.json["end_of_text"] = *summary.end_of_text;
    if (format_of(source) == DataFormat::megatron) add_vocabulary(summary, report);
    if (verify) {
        const int64_t largest = verify_dataset(source, 0, progress);
        report.lines.emplace_back("verified", "largest token id " + count(largest));
        report.json["largest_token"] = largest;
        const bool has_faults = !report.faults.empty();
        if (format_of(source) != DataFormat::megatron || has_faults) return report;
        if (const auto differences = compare_with_manifest(source.path)) {
            report.faults = *differences;
            report.json["matches_manifest"] = differences->empty();
            if (differences->empty()) report.lines.emplace_back("manifest", "both files match");
        }
    }
    return report;
}

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() > end.size() && text.ends_with(end);
}

constexpr const char* kInspectable =
    "a run folder, a step folder, a dataset prefix (PREFIX.bin and PREFIX.idx), token files or a "
    "safetensors file";

Report inspect(const std::string& path, DataFormat format, bool verify) {
    std::error_code ignored;
    if (format != DataFormat::automatic) {
        return inspect_dataset({.path = path, .format = format}, verify);
    }
    if (std::filesystem::is_directory(path, ignored)) return inspect_checkpoint(path, verify);
    if (std::filesystem::exists(path + ".idx", ignored) ||
        std::filesystem::exists(path + ".bin", ignored)) {
        return inspect_dataset({.path = path}, verify);
    }
    if (std::filesystem::exists(path, ignored)) {
        const bool is_dataset = ends_with(path, ".idx") || ends_with(path, ".bin");
        if (is_dataset) {
            const std::string prefix = path.substr(0, path.size() - 4);
            const bool is_indexed = std::filesystem::exists(prefix + ".idx", ignored);
            return inspect_dataset({.path = is_indexed ? prefix : path}, verify);
        }
        try {
            return inspect_safetensors(path, verify);
        } catch (const Error& error) {
            if (error.code() != ExitCode::bad_data || ends_with(path, ".safetensors")) throw;
            throw error.retold(path + " is nothing that can be inspected: expected " +
                               kInspectable + "; as a safetensors file: " + error.what());
        }
    }
    if (path.find_first_of("*?[") != std::string::npos) {
        return inspect_dataset({.path = path}, verify);
    }
    throw Error(ExitCode::bad_data, "nothing found at " + path + ": expected " + kInspectable);
}

// Names come from files that nobody vouches for and must not steer the terminal.
std::string printable(std::string text) {
    for (char& c : text) {
        if ((c >= 0 && c < ' ') || c == '\x7f') c = '?';
    }
    return text;
}

std::string text_of(const Report& report) {
    size_t label_width = 0;
    for (const auto& [label, value] : report.lines) {
        label_width = std::max(label_width, label.size());
    }
    std::string text;
    for (const auto& [label, value] : report.lines) {
        text += printable(label) + std::string(label_width + 2 - label.size(), ' ') +
                printable(value) + "\n";
    }
    std::vector<size_t> widths;
    for (const auto& row : report.table) {
        widths.resize(row.size());
        for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    if (report.table.size() < 2) return text;
    text += "\n";
    for (const auto& row : report.table) {
        std::string line;
        for (size_t i = 0; i < row.size(); ++i) {
            line += printable(row[i]) + std::string(widths[i] + 2 - row[i].size(), ' ');
        }
        text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return text;
}

}  // namespace

int inspect_command(const InspectArguments& arguments) {
    Report report = inspect(arguments.path, data_format_of(arguments.format), arguments.verify);
    std::string text;
    if (arguments.json) {
        if (arguments.verify || !report.faults.empty()) report.json["faults"] = report.faults;
        text = report.json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    } else {
        text = text_of(report);
    }
    std::fwrite(text.data(), 1, text.size(), stdout);
    check_standard_output();
    if (report.faults.empty()) return static_cast<int>(ExitCode::ok);
    const size_t n = report.faults.size();
    std::string message = std::to_string(n) + (n == 1 ? " fault found" : " faults found");
    for (const std::string& fault : report.faults) message += "\n  " + fault;
    throw Error(ExitCode::bad_data, message);
}

}  // namespace trireme
