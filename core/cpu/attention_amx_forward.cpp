#include <cmath>

#include "core/cpu/attention_amx.h"
#include "core/cpu/attention_parts.h"
#include "core/cpu/attention_rows.h"

namespace trireme::attention {

namespace {

struct ForwardScratch {
    ForwardScratch(const Sizes& s, float* memory) : cut(memory) {
        keys = take_bf16(cut, s.blocks * kKeys * s.padded);
        values = take_bf16(cut, s.blocks * kKeys * s.padded);
        queries = take_bf16(cut, kQueries * s.padded);
        probabilities = take_bf16(cut, kQueries * kKeys);
        out = cut.take(kQueries * s.padded);
        scores = cut.take(kQueries * kKeys);
        maximum = cut.take(kQueries);
        sum = cut.take(kQueries);
        factors = cut.take(kKeys);
    }
    Cutter cut;
    uint16_t *keys, *values, *queries, *probabilities;
    float *out, *scores, *maximum, *sum, *factors;
};

void forward_block(const Sizes& s, const ForwardScratch& w, int64_t b, int64_t head,
                   int64_t query_block, const HeadRows& rows, bf16* out, float* lse) {
    const int64_t first = query_block * kQueries;
    const int64_t queries = std::min(kQueries, s.length - first);
    const int64_t panel = kPanelWidth * s.padded;
    pack_rows_as_a(s, rows, first, queries, w.queries);
    for (int64_t key_block = 0; key_block <= query_block; ++key_block) {
        const Block block(s, query_block, key_block);
        const int64_t offset = block.first_key * s.padded;
        multiply({w.queries, panel, panels_of(queries)},
                 {w.keys + offset, panel, panels_of(block.keys)}, panels_of(s.depth), w.scores,
                 kKeys, false);
        for (int64_t i = 0; i < queries; ++i) {
            float* row = w.scores + i * kKeys;
#pragma omp simd
            for (int j = 0; j < kKeys; ++j) row[j] *= s.shape.scale;
            softmax_row(s, block.visible(i), key_block == 0, row, w.maximum[i], w.sum[i],
                        w.out + i * s.padded);
            const float* factors =
                row_factors(s, b, head, first + i, block.first_key, w.factors);
            if (factors) multiply_by(factors, row);
            pack_block_row(row, i, w.probabilities);
        }
        multiply({w.probabilities, kBlockPanel, panels_of(queries)},
                 {w.values + offset, kBlockPanel, panels_of(s.depth)}, panels_of(block.keys),
                 w.out, s.padded, key_block > 0);
    }
    bf16* to = out + s.out_offset(b, head) + first * s.out_row;
    for (int64_t i = 0; i < queries; ++i) {
        unpack(s, w.out + i * s.padded, 1, 1.0f / w.sum[i], to + i * s.out_row, s.out_row);
        lse[s.lse_offset(b, head) + first + i] = w.maximum[i] + std::log(w.sum[i]);
    }
}

}  // namespace

int64_t amx_forward_scratch(const AttentionShape& shape) {
    return ForwardScratch(amx_sizes(shape), nullptr).cut.used();
}

void amx_forward(const AmxCall& call, const bf16* qkv, bf16* out, float* lse) {
    const Sizes s = amx_sizes(call.shape);
    for_forward_parts(s, call.threads, [&](int64_t b, int64_t kv, int64_t first, int64_t step,
                                           int thread) {
        const ForwardScratch w(s, call.scratch + thread * call.scratch_stride);
        const TileSession tiles;
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
