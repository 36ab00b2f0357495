#pragma once

#include "core/cuda/device_code.h"
#include "core/ops.h"
#include "core/random.h"

// The residual add with its dropout, pack by pack. For .cu files only.

namespace trireme {

struct Mask {
    Dropout dropout;
    float kept;  // factor of the elements that are kept
};

inline Mask make_mask(const Dropout& dropout) {
    return {dropout, 1.0f / (1.0f - dropout.probability)};
}

// Factors of the n elements from `first` on, counted from the tensor's first: 1 or a multiple of 4.
// Each Philox block of 4 words is made once; where the elements start within a block, there is one
// more of them, and the words move down to their places.
template <int n>
__device__ Floats<n> mask_factors(const Mask& mask, int64_t first) {
    constexpr int kBlocks = n == 1 ? 1 : n / 4 + 1;
    const uint64_t element = mask.dropout.first_element + static_cast<uint64_t>(first);
    const uint32_t skip = static_cast<uint32_t>(element % 4);
    const uint64_t stream = mask.dropout.stream;
    uint32_t words[4 * kBlocks] = {};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
        if (n > 1 && b == kBlocks - 1 && skip == 0) break;
        const uint64_t block = element / 4 + b;
        const auto four = philox(
            mask.dropout.key, {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                               static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)});
#pragma unroll
        for (int k = 0; k < 4; ++k) words[4 * b + k] = four[k];
    }
    // Two conditional moves, since an index known at run time only would put the words in memory.
#pragma unroll
    for (int k = 0; k + 1 < 4 * kBlocks; ++k) words[k] = skip & 1 ? words[k + 1] : words[k];
#pragma unroll
    for (int k = 0; k + 2 < 4 * kBlocks; ++k) words[k] = skip & 2 ? words[k + 2] : words[k];
    Floats<n> factors;
#pragma unroll
    for (int k = 0; k < n; ++k) {
        const bool keeps = uniform_from_bits(words[k]) >= mask.dropout.probability;
        factors[k] = keeps ? mask.kept : 0.0f;
    }
    return factors;
}

// residual + mask * (y + bias) for the n elements from `at` on, where drops says that there is a
// mask at all.
template <bool drops, int n>
__device__ Floats<n> residual_sum(const Floats<n>& residual, const Floats<n>& y,
                                  const Floats<n>& bias, const Mask& mask, int64_t at) {
    Floats<n> sum = residual, addend = y;
#pragma unroll
    for (int k = 0; k < n; ++k) addend[k] += bias[k];
    if constexpr (drops) {
        const Floats<n> factors = mask_factors<n>(mask, at);
#pragma unroll
        for (int k = 0; k < n; ++k) addend[k] *= factors[k];
    }
#pragma unroll
    for (int k = 0; k < n; ++k) sum[k] += addend[k];
    return sum;
}

}  // namespace trireme
