#pragma once

#include <cstdint>

#include "core/ops.h"

namespace trireme {

// Factors of consecutive elements under a dropout: 0, or 1 / (1 - probability). Made in tiles on
// the stack, a whole Philox block at a time, whatever element the tile starts at.
class DropoutTile {
public:
    static constexpr int64_t kElements = 256;

    // Factors of `count` <= kElements elements from the global index `first`. They live until the
    // next call.
    const float* make(const Dropout& dropout, uint64_t first, int64_t count);

private:
    static constexpr int64_t kWords = kElements + 8;  // the first and last block may stick out
    uint32_t words_[kWords];
    float factors_[kWords];
};

}  // namespace trireme
