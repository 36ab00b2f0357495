#include <algorithm>
#include <cmath>
#include <limits>

#include "core/cpu/attention_amx.h"
#include "core/cpu/attention_parts.h"
#include "core/cpu/attention_rows.h"

namespace trireme::attention {

namespace {

// A row's sum is kept in lanes until its last block, for summing them takes as long as a vector of
// exponentials.
constexpr int kSumLanes = 16;
static_assert(kKeys == 4 * kSumLanes);

struct ForwardScratch {
    ForwardScratch(const Sizes& s, float* memory) : cut(memory) {
        keys = take_bf16(cut, s.blocks * kKeys * s.padded);
        values = take_bf16(cut, s.blocks * kKeys * s.padded);
        queries = take_bf16(cut, kQueries * s.padded);
        probabilities = take_bf16(cut, kQueries * kKeys);
        out = cut.take(kQueries * s.padded);
        scores = cut.take(kQueries * kKeys);
        maximum = cut.take(kQueries);
        shrink = cut.take(kQueries);
        sums = cut.take(kQueries * kSumLanes);
        factors = cut.take(kKeys);
    }
    Cutter cut;
    uint16_t *keys, *values, *queries, *probabilities;
    float *out, *scores, *maximum, *shrink, *sums, *factors;
};

// Scales and masks a block of scores, brings the running maxima of its rows up to date, and finds
// by what their former sums must shrink: 0 in the first block. Steps are passes over all rows
// because the rows of one pass do not wait for each other.
void raise_maxima(const Sizes& s, const ForwardScratch& w, const Block& block) {
    for (int64_t i = 0; i < block.queries; ++i) {
        float* row = w.scores + i * kKeys;
        const float scale = s.shape.scale;
#pragma omp simd
        for (int j = 0; j < kKeys; ++j) row[j] *= scale;
        const int hidden = block.hidden(i);
        for (int j = 0; j < hidden; ++j) row[j] = -std::numeric_limits<float>::infinity();
        for (int j = block.visible(i); j < kKeys; ++j) {
            row[j] = -std::numeric_limits<float>::infinity();
        }
        float top = w.maximum[i];
#pragma omp simd reduction(max : top)
        for (int j = 0; j < kKeys; ++j) top = row[j] > top ? row[j] : top;
        w.shrink[i] = w.maximum[i] - top;
        w.maximum[i] = top;
    }
#pragma omp simd
    for (int64_t i = 0; i < kQueries; ++i) w.shrink[i] = exp_of_negative(w.shrink[i]);
}

// Turns a block of scores into exp(score - maximum) and adds them to the rows' sums.
void add_exponentials(const ForwardScratch& w, const Block& block) {
    for (int64_t i = 0; i < block.queries; ++i) {
        float* row = w.scores + i * kKeys;
        float* sums = w.sums + i * kSumLanes;
        const float top = w.maximum[i];
        const float shrink = w.shrink[i];
#pragma omp simd
        for (int j = 0; j < kKeys; ++j) row[j] = exp_of_negative(row[j] - top);
#pragma omp simd
        for (int j = 0; j < kSumLanes; ++j) {
            sums[j] = sums[j] * shrink + ((row[j] + row[j + kSumLanes]) +
                                          (row[j + 2 * kSumLanes] + row[j + 3 * kSumLanes]));
        }
    }
}

void shrink_out(const Sizes& s, const ForwardScratch& w, const Block& block) {
    for (int64_t i = 0; i < block.queries; ++i) {
        float* out = w.out + i * s.padded;
        const float shrink = w.shrink[i];
#pragma omp simd
        for (int64_t d = 0; d < s.padded; ++d) out[d] *= shrink;
    }
}

// The queries of one block and head against all keys before them that they see.
void forward_block(const Sizes& s, const ForwardScratch& w, int64_t b, int64_t head,
                   int64_t query_block, const HeadRows& rows, bf16* out, float* lse) {
    const int64_t first = query_block * kQueries;
    const int64_t queries = std::min(kQueries, s.length - first);
    const int64_t panel = kPanelWidth * s.padded;
    pack_rows_as_a(s, rows, first, queries, w.queries);
    // A number: no difference of infinities where a row sees none of its first block's keys.
    std::fill_n(w.maximum, kQueries, std::numeric_limits<float>::lowest());
    std::fill_n(w.sums, kQueries * kSumLanes, 0.0f);
    const int64_t first_block = s.first_key_block(b, query_block);
    for (int64_t key_block = first_block; key_block <= query_block; ++key_block) {
        const Block block(s, b, query_block, key_block);
        const int64_t offset = block.first_key * s.padded;
        multiply({w.queries, panel, panels_of(queries)},
                 {w.keys + offset, panel, panels_of(block.keys)}, panels_of(s.depth), w.scores,
                 kKeys, false);
        raise_maxima(s, w, block);
        add_exponentials(w, block);
        for (int64_t i = 0; i < queries; ++i) {
            const float* factors = row_factors(s, b, head, first + i, block.first_key, w.factors);
            if (!factors) break;
            multiply_by(factors, w.scores + i * kKeys);
        }
        pack_block(w.scores, block, w.probabilities);
        if (key_block > first_block) shrink_out(s, w, block);
        multiply({w.probabilities, kBlockPanel, panels_of(queries)},
                 {w.values + offset, kBlockPanel, panels_of(s.depth)}, panels_of(block.keys), w.out,
                 s.padded, key_block > first_block);
    }
    bf16* to = out + s.out_offset(b, head) + first * s.out_row;
    for (int64_t i = 0; i < queries; ++i) {
        float sum = 0.0f;
        for (int j = 0; j < kSumLanes; ++j) sum += w.sums[i * kSumLanes + j];
        unpack(s, w.out + i * s.padded, 1, 1.0f / sum, to + i * s.out_row, s.out_row);
        lse[s.lse_offset(b, head) + first + i] = w.maximum[i] + std::log(sum);
    }
}

}  // namespace

int64_t amx_forward_scratch(const AttentionShape& shape) {
    return ForwardScratch(amx_sizes(shape), nullptr).cut.used();
}

void amx_forward(const AmxCall& call, const bf16* qkv, bf16* out, float* lse) {
    const Sizes s = amx_sizes(call.shape);
    for_forward_parts(s, call.threads,
                      [&](int64_t b, int64_t kv, int64_t first, int64_t step, int thread) {
                          const ForwardScratch w(s, call.scratch + thread * call.scratch_stride);
                          const TileScope tiles;
                          pack_rows_as_b(s, {qkv + s.key_offset(b, kv), s.row}, w.keys);
                          pack_blocks_as_b(s, {qkv + s.value_offset(b, kv), s.row}, w.values);
                          for (int64_t head = kv * s.group; head < (kv + 1) * s.group; ++head) {
                              const HeadRows rows{qkv + s.query_offset(b, head), s.row};
                              for (int64_t q = first; q < s.blocks; q += step) {
                                  forward_block(s, w, b, head, q, rows, out, lse);
                              }
                          }
                      });
}

}  // namespace trireme::attention
