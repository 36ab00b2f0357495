#pragma once

#include <cstdint>
#include <span>

namespace trireme {

struct SamplingOptions {
    double temperature = 1.0;  // 0: always the most likely token
    int top_k = 0;             // 0: all tokens may be drawn
    uint64_t seed = 1234;
};

// Draws a token from softmax(logits / temperature), among the top_k most likely. The same seed and
// position give the same draw on every rank and mesh. Error(numerics) where a logit is not a
// number.
int32_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                     int64_t position);

}  // namespace trireme
