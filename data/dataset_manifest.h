#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace trireme {

// What PREFIX.json tells of a dataset that `prepare` wrote. Datasets made elsewhere have none.
struct DatasetManifest {
    struct FileContent {
        int64_t bytes = 0;
        uint32_t checksum = 0;  // CRC-32C
    };

    std::string tokenizer;              // name as given
    std::string tokenizer_fingerprint;  // see Tokenizer
    int64_t vocab_size = 0;             // of the tokenizer
    int64_t end_of_text = 0;            // its id
    std::string token_type;             // "uint16" or "int32"
    int64_t documents = 0;
    int64_t tokens = 0;
    int64_t text_bytes = 0;
    int64_t skipped_lines = 0;  // over all parts of the preparation
    int64_t largest_id = 0;     // that occurs
    FileContent bin, idx;
};

std::string manifest_path(const std::string& prefix);

// What PREFIX.json holds, and back: nothing when the text is none of ours, Error(bad_data) naming
// `source` when it is, but damaged.
std::string manifest_text(const DatasetManifest& manifest);
std::optional<DatasetManifest> parse_manifest_text(const std::string& text,
                                                   const std::string& source);

// Replaces PREFIX.json, durably. Error(io).
void write_manifest(const std::string& prefix, const DatasetManifest& manifest);

// Nothing when there is no PREFIX.json or it is none of ours. Error(bad_data): ours, but damaged.
std::optional<DatasetManifest> read_manifest(const std::string& prefix);

// Error(bad_data) with both numbers when the dataset's manifest, if it has one that fits its .bin,
// knows of an id that is not below vocab_size.
void check_vocabulary(const std::string& prefix, int64_t vocab_size);

}  // namespace trireme
