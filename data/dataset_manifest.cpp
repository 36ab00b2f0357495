#include "data/dataset_manifest.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/strict_json.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "trireme-dataset";
constexpr uint64_t kMaxBytes = uint64_t{1} << 20;

json json_of(const DatasetManifest::FileContent& file) {
    return {{"bytes", file.bytes}, {"crc32c", crc_text(file.checksum)}};
}

DatasetManifest::FileContent content_of(const json& file, const std::string& source) {
    const uint32_t checksum = parse_crc(string_member(file, "crc32c", source), source);
    return {whole_number(member(file, "bytes", source), source, "'bytes'"), checksum};
}

}  // namespace

std::string manifest_path(const std::string& prefix) {
    return prefix + ".json";
}

std::string manifest_text(const DatasetManifest& manifest) {
    nlohmann::ordered_json out;
    out["format"] = kFormat;
    out["version"] = 1;
    out["tokenizer"] = {{"name", manifest.tokenizer},
                        {"fingerprint", manifest.tokenizer_fingerprint},
                        {"vocab_size", manifest.vocab_size},
                        {"end_of_text", manifest.end_of_text}};
    out["token_type"] = manifest.token_type;
    out["documents"] = manifest.documents;
    out["tokens"] = manifest.tokens;
    out["text_bytes"] = manifest.text_bytes;
    out["skipped_lines"] = manifest.skipped_lines;
    out["largest_id"] = manifest.largest_id;
    out["bin"] = json_of(manifest.bin);
    out["idx"] = json_of(manifest.idx);
    return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

void write_manifest(const std::string& prefix, const DatasetManifest& manifest) {
    replace_file(manifest_path(prefix), manifest_text(manifest));
}

std::optional<DatasetManifest> read_manifest(const std::string& prefix) {
    const std::string path = manifest_path(prefix);
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
    if (std::filesystem::file_size(path, error) > kMaxBytes) return std::nullopt;
    return parse_manifest_text(read_file(path, kMaxBytes), path);
}

std::optional<DatasetManifest> parse_manifest_text(const std::string& text,
                                                   const std::string& source) {
    if (text.find(kFormat) == std::string::npos) return std::nullopt;
    const json file = parse_strict_json(text, source, 8);
    const auto number = [&](const json& object, const char* key) {
        return whole_number(member(object, key, source), source, "'" + std::string(key) + "'");
    };
    if (string_member(file, "format", source) != kFormat || number(file, "version") != 1) {
        return std::nullopt;
    }
    const json& tokenizer = member(file, "tokenizer", source);
    DatasetManifest manifest;
    manifest.tokenizer = string_member(tokenizer, "name", source);
    manifest.tokenizer_fingerprint = string_member(tokenizer, "fingerprint", source);
    manifest.vocab_size = number(tokenizer, "vocab_size");
    manifest.end_of_text = number(tokenizer, "end_of_text");
    manifest.token_type = string_member(file, "token_type", source);
    manifest.documents = number(file, "documents");
    manifest.tokens = number(file, "tokens");
    manifest.text_bytes = number(file, "text_bytes");
    manifest.skipped_lines = number(file, "skipped_lines");
    manifest.largest_id = number(file, "largest_id");
    manifest.bin = content_of(member(file, "bin", source), source);
    manifest.idx = content_of(member(file, "idx", source), source);
    return manifest;
}

void check_vocabulary(const std::string& prefix, int64_t vocab_size) {
    const std::optional<DatasetManifest> manifest = read_manifest(prefix);
    if (!manifest || manifest->largest_id < vocab_size) return;
    std::error_code error;
    const auto bytes = std::filesystem::file_size(prefix + ".bin", error);
    // Another program has written the dataset anew: its reader checks every id as it comes.
    if (error || static_cast<int64_t>(bytes) != manifest->bin.bytes) return;
    throw Error(ExitCode::bad_data,
                prefix + ".bin holds token id " + std::to_string(manifest->largest_id) +
                    ", but model.vocab_size is " + std::to_string(vocab_size) +
                    "; the dataset's tokenizer " + manifest->tokenizer + " has " +
                    std::to_string(manifest->vocab_size) +
                    " ids: set model.vocab_size to at least that, or prepare the text anew");
}

}  // namespace trireme
