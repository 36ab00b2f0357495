#pragma once

#include <array>
#include <cstdint>

#include "core/random.h"

namespace trireme {

namespace detail {

// Words of kBlocks consecutive Philox blocks, in order of the elements: philox() for several
// counters side by side. Each 32-bit word lies in 64 bits whose upper half is ignored, which is
// the form that the processor's widening multiplication takes and gives.
template <int kBlocks>
void philox_blocks(PhiloxKey key, uint64_t stream, uint64_t first_block, uint32_t* words) {
    constexpr uint64_t kLow = 0xffffffffu;
#pragma omp simd
    for (int i = 0; i < kBlocks; ++i) {
        uint64_t c0 = first_block + static_cast<uint64_t>(i);
        uint64_t c1 = c0 >> 32;
        uint64_t c2 = stream;
        uint64_t c3 = stream >> 32;
        uint32_t k0 = key.lo;
        uint32_t k1 = key.hi;
#pragma GCC unroll 10
        for (int round = 0; round < 10; ++round) {
            const uint64_t p0 = uint64_t{0xD2511F53u} * (c0 & kLow);
            const uint64_t p1 = uint64_t{0xCD9E8D57u} * (c2 & kLow);
            c0 = (p1 >> 32) ^ c1 ^ k0;
            c1 = p1;
            c2 = (p0 >> 32) ^ c3 ^ k1;
            c3 = p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        words[4 * i] = static_cast<uint32_t>(c0);
        words[4 * i + 1] = static_cast<uint32_t>(c1);
        words[4 * i + 2] = static_cast<uint32_t>(c2);
        words[4 * i + 3] = static_cast<uint32_t>(c3);
    }
}

}  // namespace detail

// factors[j] = 0 or 1 / (1 - probability) for kCount elements that begin at a global index: the
// same words as philox_word gives, many at a time. kCount is a multiple of 64.
template <int kCount>
void dropout_factors(PhiloxKey key, uint64_t stream, uint64_t first_element, float probability,
                     float* factors) {
    constexpr int kBlocks = kCount / 4;
    alignas(64) std::array<uint32_t, kCount + 4> words;
    const uint64_t first_block = first_element / 4;
    const uint64_t skip = first_element % 4;
    detail::philox_blocks<kBlocks>(key, stream, first_block, words.data());
    if (skip != 0) detail::philox_blocks<1>(key, stream, first_block + kBlocks, &words[kCount]);
    const float keep = 1.0f / (1.0f - probability);
    const uint32_t* first = words.data() + skip;
#pragma omp simd
    for (int j = 0; j < kCount; ++j) {
        factors[j] = uniform_from_bits(first[j]) >= probability ? keep : 0.0f;
    }
}

}  // namespace trireme
