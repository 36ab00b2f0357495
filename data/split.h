#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace trireme {

// Sequences [begin, end) of a dataset.
struct SequenceRange {
    int64_t begin = 0;
    int64_t end = 0;
    bool operator==(const SequenceRange&) const = default;
};

// The part of a dataset's sequences from a fraction of their number to another; all by default.
struct DatasetShare {
    double begin = 0.0;
    double end = 1.0;
    bool operator==(const DatasetShare&) const = default;
};

// The share's sequences of a dataset of n_sequences, as Megatron rounds: halves to even. `name` is
// for the message. Error(bad_data) when a dataset with sequences has none in the share.
SequenceRange sequences_of(const DatasetShare& share, int64_t n_sequences, const std::string& name);

// Megatron's split of each dataset into train, valid and test; one of weight zero is not there.
struct DatasetSplit {
    std::string text;  // the weights with commas between, without zeros behind the last
    std::optional<DatasetShare> train;
    std::optional<DatasetShare> valid;
    std::optional<DatasetShare> test;
};

// From weights of any sum, of which missing ones are zero: "969,30,1" or "0.9 / 0.1". Error(config)
// on anything else, and when all are zero.
DatasetSplit parse_split(const std::string& text);

}  // namespace trireme
