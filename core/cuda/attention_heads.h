#pragma once

#include "core/cuda/device_code.h"
#include "core/formulas.h"
#include "core/ops.h"
#include "core/random.h"

// Where the attention kernels find what belongs to a head, a document and an element. For .cu files
// only.
namespace trireme::attention_heads {

// A block of threads works on a tile of this many queries or keys at a time.
inline constexpr int kTile = 64;
inline constexpr int kThreads = 128;

// One head's part of a tensor: a row of `depth` elements for each token of a sequence.
template <typename T>
struct Head {
    T* first;
    int64_t stride;
    int64_t tokens;
    int depth;
    float factor;  // that elements are multiplied by when they are read
};

// Parts of the packed rows: query heads, then key heads, then value heads.
template <typename T>
__device__ inline Head<T> packed_head(const AttentionShape& s, T* qkv, int64_t b, int index,
                                      float factor = 1.0f) {
    const int64_t stride = static_cast<int64_t>(s.heads + 2 * s.kv_heads) * s.head_dim;
    return {qkv + b * s.sequence * stride + static_cast<int64_t>(index) * s.head_dim, stride,
            s.sequence, s.head_dim, factor};
}
template <typename T>
__device__ inline Head<T> output_head(const AttentionShape& s, T* out, int64_t b, int head) {
    const int64_t stride = static_cast<int64_t>(s.heads) * s.head_dim;
    return {out + b * s.sequence * stride + static_cast<int64_t>(head) * s.head_dim, stride,
            s.sequence, s.head_dim, 1.0f};
}
__device__ inline int64_t row_statistics(const AttentionShape& s, int64_t b, int head) {
    return (b * s.heads + head) * s.sequence;
}

// The tile with the first query whose output is wanted.
__host__ __device__ inline int first_query_tile(const AttentionShape& s) {
    return s.first_query / kTile;
}

// Where the documents of a sequence begin. With `apart` false nothing of this is left in a kernel;
// with `apart` and not `given` there may still be none (document_begin null).
template <bool apart, bool given = true>
struct Documents {
    __device__ Documents(const AttentionShape& s, const int32_t* document_begin, int64_t b)
        : of_token(apart && (given || document_begin) ? document_begin + b * s.sequence : nullptr),
          tokens(s.sequence) {}

    // The first key that a query sees; never falls. Queries beyond the sequence are as its last.
    __device__ int first_key(int64_t query) const {
        if constexpr (!apart) return 0;
        if (!given && !of_token) return 0;
        return of_token[query < tokens ? query : tokens - 1];
    }
    // Where the first tile of keys begins that a tile of queries needs.
    __device__ int first_key_tile(int64_t first_query) const {
        return first_key(first_query) / kTile * kTile;
    }
    // The first query from `from` on that sees no key before `end`; `tokens` where there is none.
    __device__ int first_query_without(int from, int end) const {
        int last = static_cast<int>(tokens);
        if constexpr (apart) {
            while (from < last) {
                const int middle = from + (last - from) / 2;
                if (first_key(middle) < end) {
                    from = middle + 1;
                } else {
                    last = middle;
                }
            }
        }
        return last;
    }
    // Whether a query of which first_key() is given sees a key that does not stand behind it.
    template <typename Index>
    static __device__ bool sees(int first, Index key) {
        return !apart || key >= first;
    }

    const int32_t* of_token;
    int64_t tokens;
};

// Tensors of backward, as the kernels take them.
template <typename T>
struct BackwardTensors {
    const T* dout;
    const T* qkv;
    const float* lse;
    const float* delta;
    T* dqkv;
    const int32_t* document_begin;  // null where documents are not kept apart
};

// 0 or 1 / (1 - probability) for n keys of one query from `key` on.
template <int n>
__device__ inline void dropout_factors(const AttentionShape& s, int64_t b, int head, int64_t query,
                                       int64_t key, float (&factors)[n]) {
    const uint64_t element =
        s.dropout.first_element +
        static_cast<uint64_t>(((b * s.heads_global + head) * s.sequence + query) * s.sequence +
                              key);
    const uint64_t first = element / 4 * 4;
    const auto skipped = static_cast<unsigned>(element - first);
    constexpr unsigned kWhole = (n + 3) / 4 * 4;  // words of the blocks that are always needed
    uint32_t words[kWhole + 4] = {};
    const auto make = [&](unsigned i) {
        // Four neighbours come of one Philox block, which the compiler finds out.
        words[i] = philox_word(s.dropout.key, s.dropout.stream, first + i);
    };
#pragma unroll
    for (unsigned i = 0; i < kWhole; ++i) make(i);
    if (skipped != 0) {
        if (n % 4 == 0 || skipped + n > kWhole) {
#pragma unroll
            for (unsigned i = kWhole; i < kWhole + 4; ++i) make(i);
        }
        // Two shifts by constants keep the words in registers.
#pragma unroll
        for (unsigned shift = 1; shift <= 2; ++shift) {
            if ((skipped & shift) == 0) continue;
#pragma unroll
            for (unsigned i = 0; i + shift < kWhole + 4; ++i) words[i] = words[i + shift];
        }
    }
    const float keep = 1.0f / (1.0f - s.dropout.probability);
#pragma unroll
    for (int i = 0; i < n; ++i) {
        factors[i] = uniform_from_bits(words[i]) >= s.dropout.probability ? keep : 0.0f;
    }
}

// --- host --------------------------------------------------------------------------------------

// Blocks for (unit, tile); tiles vary slowest, so that those that have the most to do can begin
// first. left_out: that many tiles, the first ones, have no blocks.
inline Grid tile_grid(int64_t units, const AttentionShape& s, int64_t left_out = 0) {
    const int64_t tiles = divide_up(s.sequence, kTile) - left_out;
    return {dim3(static_cast<unsigned>(units), static_cast<unsigned>(tiles)), dim3(kThreads)};
}

inline const int32_t* document_begins(const AttentionShape& s) {
    return s.document_begin ? s.document_begin.as<int32_t>() : nullptr;
}

}  // namespace trireme::attention_heads
