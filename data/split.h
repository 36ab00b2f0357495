#pragma once

#include <array>
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

// Megatron's split of one dataset into train, valid and test by sequences: "969,30,1" are shares
// of any sum; missing ones are zero, and a share of zero has no range. Error(config) on a string
// without a positive share.
std::array<std::optional<SequenceRange>, 3> split_sequences(const std::string& split,
                                                            int64_t n_sequences);

}  // namespace trireme
