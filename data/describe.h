#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/data_options.h"
#include "data/dataset_manifest.h"

namespace trireme {

// Called now and then with tokens read so far and in all.
using TokenProgress = std::function<void(int64_t done, int64_t total)>;

struct DatasetSummary {
    std::string path;        // as given
    std::string format;      // "megatron", "nanogpt" or "llmc"
    std::string token_type;  // "uint16", ...
    int64_t files = 0;       // with tokens
    int64_t sequences = 0;   // without an index: documents
    int64_t documents = 0;
    int64_t tokens = 0;
    int64_t bytes = 0;              // of the tokens
    int64_t shortest_sequence = 0;  // tokens
    int64_t longest_sequence = 0;
    std::optional<int32_t> end_of_text;  // by which documents were found; not with an index
};

// What a dataset holds. Reads and checks the index; where there is none, reads all tokens to find
// the documents. Errors as from open_tokens.
DatasetSummary describe_dataset(const DataSourceOptions& source,
                                const TokenProgress& progress = {});

// Reads every token and returns the largest id. Error(bad_data) naming the place of the first id
// that is not below vocab_size; 0 admits every id that is not negative.
int64_t verify_dataset(const DataSourceOptions& source, int64_t vocab_size = 0,
                       const TokenProgress& progress = {});

// Reads the whole file, and tells `on_read` now and then how many bytes it has; what differs from
// `expected`, empty when nothing does.
std::string difference(const std::string& path, const DatasetManifest::FileContent& expected,
                       const std::function<void(int64_t)>& on_read = {});

// Reads both files of a Megatron dataset and compares them with what its manifest says of them.
// Nothing where there is no manifest; else what differs, empty when all is well.
std::optional<std::vector<std::string>> compare_with_manifest(const std::string& prefix);

}  // namespace trireme
