#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cpu/attention_block.h"
#include "core/cpu/kernel_support.h"
#include "core/formulas.h"
#include "core/ops.h"

// What attention forward and backward share: sizes, blocks, and how heads lie in scratch memory.
namespace trireme::attention {

inline constexpr int64_t kQueries = 64;  // in a block
inline constexpr int kKeys = 64;

constexpr int64_t round_up(int64_t n, int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

// Takes pieces of a thread's scratch memory; with null memory it only counts.
class Cutter {
public:
    explicit Cutter(float* memory) : memory_(memory) {}
    float* take(int64_t floats) {
        float* piece = memory_ ? memory_ + used_ : nullptr;
        used_ += round_up(floats, 16);
        return piece;
    }
    int64_t used() const { return used_; }

private:
    float* memory_;
    int64_t used_ = 0;
};

// Sizes and strides that follow from a shape.
struct Sizes {
    explicit Sizes(const AttentionShape& s, int64_t unit = kLanes)
        : shape(s),
          depth(s.head_dim),
          padded(round_up(depth, unit)),
          length(s.sequence),
          group(s.heads / s.kv_heads),
          blocks(round_up(length, kKeys) / kKeys),
          row(static_cast<int64_t>(s.heads + 2 * s.kv_heads) * depth),
          out_row(static_cast<int64_t>(s.heads) * depth) {}

    int64_t query_offset(int64_t b, int64_t head) const { return b * length * row + head * depth; }
    int64_t key_offset(int64_t b, int64_t kv) const {
        return b * length * row + (shape.heads + kv) * depth;
    }
    int64_t value_offset(int64_t b, int64_t kv) const {
        return key_offset(b, kv) + shape.kv_heads * depth;
    }
    int64_t out_offset(int64_t b, int64_t head) const {
        return b * length * out_row + head * depth;
    }
    int64_t lse_offset(int64_t b, int64_t head) const { return (b * shape.heads + head) * length; }
    int64_t transposed_block() const { return depth * kKeys; }
    int64_t first_query_block() const { return shape.first_query / kQueries; }
    // For each token of a sequence the first one of its document; null where all belong together.
    const int32_t* documents(int64_t b) const {
        return shape.document_begin ? shape.document_begin.as<int32_t>() + b * length : nullptr;
    }
    // The first block with keys that a block of queries sees; never falls with the queries.
    int64_t first_key_block(int64_t b, int64_t query_block) const {
        return shape.document_begin ? documents(b)[query_block * kQueries] / kKeys : 0;
    }
    uint64_t dropout_element(int64_t b, int64_t head, int64_t query, int64_t key) const {
        return shape.dropout.first_element +
               static_cast<uint64_t>(((b * shape.heads_global + head) * length + query) * length +
                                     key);
    }

    const AttentionShape& shape;
    int64_t depth;    // of a head
    int64_t padded;   // the same in scratch memory, in whole vectors or tiles
    int64_t length;   // of the sequence
    int64_t group;    // query heads that share a key/value head
    int64_t blocks;   // of keys, and of queries, in the sequence
    int64_t row;      // elements in a row of qkv
    int64_t out_row;  // elements in a row of out
};

static_assert(kQueries == kKeys, "one count of blocks serves queries and keys");

// rows x depth elements, `stride` apart, as f32 rows padded with zeros; times `factor`.
template <typename T>
void pack(const Sizes& s, const T* from, int64_t stride, int64_t rows, float factor, float* to) {
    for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
        for (int64_t d = 0; d < s.depth; ++d) to[d] = factor * from[d];
        for (int64_t d = s.depth; d < s.padded; ++d) to[d] = 0.0f;
        from += stride;
        to += s.padded;
    }
}

// Rows of f32 to rows of T, `stride` apart, each element times `factor`.
template <typename T>
void unpack(const Sizes& s, const float* from, int64_t rows, float factor, T* to, int64_t stride) {
    for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
        for (int64_t d = 0; d < s.depth; ++d) store(to, d, factor * from[d]);
        from += s.padded;
        to += stride;
    }
}

// Rows of the whole sequence to blocks [depth, kKeys], zeros beyond the end.
template <typename T>
void pack_transposed(const Sizes& s, const T* from, int64_t stride, float* to) {
    for (int64_t block = 0; block < s.blocks; ++block) {
        const int64_t first = block * kKeys;
        const int64_t keys = std::min<int64_t>(kKeys, s.length - first);
        const T* rows = from + first * stride;
        for (int64_t d = 0; d < s.depth; ++d) {
            for (int64_t j = 0; j < keys; ++j) to[j] = rows[j * stride + d];
            for (int64_t j = keys; j < kKeys; ++j) to[j] = 0.0f;
            to += kKeys;
        }
    }
}

// exp(x) for x at most a little above 0; exactly 0 below -87.
inline float exp_of_negative(float x) {
    const ExpParts parts = split_exp(x < -87.0f ? -87.0f : x);
    const float value = (1.0f + parts.fraction) * power_of_two(parts.exponent);
    return x < -87.0f ? 0.0f : value;
}

// The keys of one block that a block of queries sees.
struct Block {
    int64_t first_query, queries;
    int64_t first_key, keys;
    const int32_t* documents;  // of the queries, or null

    Block(const Sizes& s, int64_t b, int64_t query_block, int64_t key_block)
        : first_query(query_block * kQueries),
          queries(std::min(kQueries, s.length - first_query)),
          first_key(key_block * kKeys),
          keys(std::min<int64_t>(kKeys, first_query + queries - first_key)),
          documents(s.shape.document_begin ? s.documents(b) + first_query : nullptr) {}

    // Query i of the block sees the keys in [hidden(i), visible(i)), which may be none.
    int visible(int64_t i) const {
        return static_cast<int>(std::min<int64_t>(keys, first_query + i + 1 - first_key));
    }
    int hidden(int64_t i) const {
        if (!documents) return 0;
        return static_cast<int>(std::clamp<int64_t>(documents[i] - first_key, 0, kKeys));
    }
};

// scores [queries, kKeys] = queries times a transposed block of keys (or values); of the block's
// queries those from `begin` on.
inline void multiply_transposed(const Sizes& s, const Block& block, const float* rows,
                                const float* transposed, float* scores, int64_t begin = 0) {
    multiply({block.queries - begin, round_up(block.keys, kLanes), s.depth, rows + begin * s.padded,
              s.padded, 1, transposed, kKeys, scores + begin * kKeys, kKeys, false});
}

// Into how many parts the blocks of each of `units` heads are dealt, so that all threads work.
inline int64_t parts_for(int threads, int64_t units, int64_t enough, int64_t blocks) {
    if (threads == 1 || units >= enough) return 1;
    return std::min(blocks, (4 * threads + units - 1) / units);
}

}  // namespace trireme::attention
