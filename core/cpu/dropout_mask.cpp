#include "core/cpu/dropout_mask.h"

#include "core/error.h"

namespace trireme {

namespace {

void fill_words(PhiloxKey key, uint64_t stream, uint64_t first_block, int64_t blocks,
                uint32_t* words) {
    const uint32_t stream_lo = static_cast<uint32_t>(stream);
    const uint32_t stream_hi = static_cast<uint32_t>(stream >> 32);
#pragma omp simd
    for (int64_t i = 0; i < blocks; ++i) {
        const uint64_t block = first_block + static_cast<uint64_t>(i);
        const auto four = philox(key, {static_cast<uint32_t>(block),
                                       static_cast<uint32_t>(block >> 32), stream_lo, stream_hi});
        words[4 * i] = four[0];
        words[4 * i + 1] = four[1];
        words[4 * i + 2] = four[2];
        words[4 * i + 3] = four[3];
    }
}

void fill_factors(const uint32_t* words, float probability, float* factors, int64_t n) {
    const float kept = 1.0f / (1.0f - probability);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        factors[i] = uniform_from_bits(words[i]) >= probability ? kept : 0.0f;
    }
}

}  // namespace

const float* DropoutTile::make(const Dropout& dropout, uint64_t first, int64_t count) {
    TRIREME_CHECK(count >= 0 && count <= kElements, "a dropout tile of at most 256 elements");
    const int64_t skip = static_cast<int64_t>(first % 4);
    const int64_t blocks = (skip + count + 3) / 4;
    fill_words(dropout.key, dropout.stream, first / 4, blocks, words_);
    fill_factors(words_, dropout.probability, factors_, 4 * blocks);
    return factors_ + skip;
}

}  // namespace trireme
