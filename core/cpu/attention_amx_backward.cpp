#include "core/cpu/attention_amx.h"
#include "core/cpu/attention_parts.h"
#include "core/cpu/attention_rows.h"

namespace trireme::attention {

namespace {

// Packed operands are named after the direction in which they are multiplied: along the depth of
// their rows, or along the rows of a block.
struct BackwardScratch {
    BackwardScratch(const Sizes& s, float* memory) : cut(memory) {
        const int64_t elements = s.blocks * kKeys * s.padded;
        keys_by_depth = take_bf16(cut, elements);
        values_by_depth = take_bf16(cut, elements);
        keys_by_row = take_bf16(cut, elements);
        queries_by_depth = take_bf16(cut, elements);
        queries_by_row = take_bf16(cut, elements);
        dout_by_depth = take_bf16(cut, elements);
        dout_by_row = take_bf16(cut, elements);
        probabilities = take_bf16(cut, kQueries * kKeys);
        dscores = take_bf16(cut, kQueries * kKeys);
        transposed = take_bf16(cut, kQueries * kKeys);
        dqueries = cut.take(elements);
        dkeys = cut.take(elements);
        dvalues = cut.take(elements);
        delta = cut.take(s.length);
        scores = cut.take(kQueries * kKeys);
        gradient = cut.take(kQueries * kKeys);
        factors = cut.take(kKeys);
    }
    Cutter cut;
    uint16_t *keys_by_depth, *values_by_depth, *keys_by_row, *queries_by_depth, *queries_by_row,
        *dout_by_depth, *dout_by_row, *probabilities, *dscores, *transposed;
    float *dqueries, *dkeys, *dvalues, *delta, *scores, *gradient, *factors;
};

// delta[q] = dout[q] . out[q], which is the sum over keys of probability * its gradient.
void sum_delta(const Sizes& s, const bf16* dout, const bf16* out, float* delta) {
    for (int64_t t = 0; t < s.length; ++t) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < s.depth; ++d) sum += load(dout, d) * load(out, d);
        delta[t] = sum;
        dout += s.out_row;
        out += s.out_row;
    }
}

// A packed block with keys and queries exchanged.
void transpose_block(const uint16_t* block, int64_t query_panels, int64_t key_panels,
                     uint16_t* to) {
    for (int64_t q = 0; q < query_panels; ++q) {
        for (int64_t k = 0; k < key_panels; ++k) {
            const PanelSource source{block + q * kBlockPanel + k * kStepElements, kTileDepth,
                                     kPanelWidth, true};
            pack_a_panel(source, 0, 0, kTileDepth, to + k * kBlockPanel + q * kStepElements);
        }
    }
}

// Probabilities and gradients of scores of one block, as bf16.
void backward_rows(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t head,
                   const Block& block, const float* lse) {
    for (int64_t i = 0; i < block.queries; ++i) {
        const int64_t query = block.first_query + i;
        float* scores = w.scores + i * kKeys;
        float* gradient = w.gradient + i * kKeys;
        const float* factors = row_factors(s, b, head, query, block.first_key, w.factors);
        backward_row(block.hidden(i), block.visible(i), s.shape.scale, lse[query], w.delta[query],
                     factors, scores, gradient);
    }
    const int64_t padded_queries = panels_of(block.queries) * kPanelWidth;
    // Rows beyond the sequence are summed over too.
    std::fill(w.scores + block.queries * kKeys, w.scores + padded_queries * kKeys, 0.0f);
    std::fill(w.gradient + block.queries * kKeys, w.gradient + padded_queries * kKeys, 0.0f);
    pack_block(w.scores, block, w.probabilities);
    pack_block(w.gradient, block, w.dscores);
}

void backward_block(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t head,
                    const Block& block, const float* lse, const BackwardPart& part) {
    const int64_t panel = kPanelWidth * s.padded;
    const int64_t query_panels = panels_of(block.queries);
    const int64_t key_panels = panels_of(block.keys);
    const int64_t depth_panels = panels_of(s.depth);
    const int64_t at_query = block.first_query * s.padded;
    const int64_t at_key = block.first_key * s.padded;
    multiply({w.queries_by_depth + at_query, panel, query_panels},
             {w.keys_by_depth + at_key, panel, key_panels}, depth_panels, w.scores, kKeys, false);
    multiply({w.dout_by_depth + at_query, panel, query_panels},
             {w.values_by_depth + at_key, panel, key_panels}, depth_panels, w.gradient, kKeys,
             false);
    backward_rows(s, w, b, head, block, lse);
    if (part.keys) {
        const bool add = head % s.group != 0 || block.first_query != block.first_key;
        const Panels transposed{w.transposed, kBlockPanel, key_panels};
        transpose_block(w.probabilities, query_panels, key_panels, w.transposed);
        multiply(transposed, {w.dout_by_row + at_query, kBlockPanel, depth_panels}, query_panels,
                 w.dvalues + at_key, s.padded, add);
        transpose_block(w.dscores, query_panels, key_panels, w.transposed);
        multiply(transposed, {w.queries_by_row + at_query, kBlockPanel, depth_panels}, query_panels,
                 w.dkeys + at_key, s.padded, add);
    }
    if (part.queries) {
        multiply({w.dscores, kBlockPanel, query_panels},
                 {w.keys_by_row + at_key, kBlockPanel, depth_panels}, key_panels,
                 w.dqueries + at_query, s.padded,
                 block.first_key / kKeys > s.first_key_block(b, block.first_query / kQueries));
    }
}

struct Tensors {
    const bf16 *dout, *qkv, *out;
    const float* lse;
    bf16* dqkv;
};

// One key/value head with all query heads that share it.
void backward_group(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t kv,
                    const BackwardPart& part, const Tensors& t) {
    const HeadRows keys{t.qkv + s.key_offset(b, kv), s.row};
    pack_rows_as_b(s, keys, w.keys_by_depth);
    pack_rows_as_b(s, {t.qkv + s.value_offset(b, kv), s.row}, w.values_by_depth);
    if (part.queries) pack_blocks_as_b(s, keys, w.keys_by_row);
    for (int64_t head = kv * s.group; head < (kv + 1) * s.group; ++head) {
        const HeadRows queries{t.qkv + s.query_offset(b, head), s.row};
        const HeadRows dout{t.dout + s.out_offset(b, head), s.out_row};
        pack_rows_as_a(s, queries, 0, s.length, w.queries_by_depth);
        pack_rows_as_a(s, dout, 0, s.length, w.dout_by_depth);
        if (part.keys) {
            pack_blocks_as_b(s, queries, w.queries_by_row);
            pack_blocks_as_b(s, dout, w.dout_by_row);
        }
        sum_delta(s, dout.first, t.out + s.out_offset(b, head), w.delta);
        for_blocks_of_part(s, b, part, [&](int64_t q, int64_t k) {
            backward_block(s, w, b, head, Block(s, b, q, k), t.lse + s.lse_offset(b, head), part);
        });
        if (part.queries) {
            unpack_blocks(s, part, w.dqueries, s.shape.scale, t.dqkv + s.query_offset(b, head),
                          s.row);
        }
    }
    if (!part.keys) return;
    unpack_blocks(s, part, w.dkeys, s.shape.scale, t.dqkv + s.key_offset(b, kv), s.row);
    unpack_blocks(s, part, w.dvalues, 1.0f, t.dqkv + s.value_offset(b, kv), s.row);
}

}  // namespace

int64_t amx_backward_scratch(const AttentionShape& shape) {
    return BackwardScratch(amx_sizes(shape), nullptr).cut.used();
}

void amx_backward(const AmxCall& call, const bf16* dout, const bf16* qkv, const bf16* out,
                  const float* lse, bf16* dqkv) {
    const Sizes s = amx_sizes(call.shape);
    const Tensors tensors{dout, qkv, out, lse, dqkv};
    for_backward_parts(s, call.threads,
                       [&](int64_t b, int64_t kv, const BackwardPart& part, int thread) {
                           const BackwardScratch w(s, call.scratch + thread * call.scratch_stride);
                           const TileScope tiles;
                           backward_group(s, w, b, kv, part, tensors);
                       });
}

}  // namespace trireme::attention
