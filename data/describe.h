#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace trireme {

struct DatasetSummary {
    std::string prefix;
    std::string token_type;  // "uint16", ...
    int64_t sequences = 0;
    int64_t documents = 0;
    int64_t tokens = 0;
    int64_t bytes = 0;              // of the .bin file
    int64_t shortest_sequence = 0;  // tokens
    int64_t longest_sequence = 0;
};

// What a dataset holds. Reads and checks the index, not the tokens. Errors as from IndexedDataset.
DatasetSummary describe_dataset(const std::string& prefix);

// Reads every token and returns the largest id. Error(bad_data) naming the place of the first id
// that is not below vocab_size; 0 admits every id that is not negative.
int64_t verify_dataset(const std::string& prefix, int64_t vocab_size = 0,
                       const std::function<void(int64_t done, int64_t total)>& progress = {});

}  // namespace trireme
