#include "core/cpu/attention.h"

#include <algorithm>
#include <cstdint>

#include "core/attention_checks.h"
#include "core/cpu/attention_amx.h"
#include "core/cpu/attention_layout.h"
#include "core/cpu/attention_parts.h"
#include "core/cpu/attention_rows.h"

namespace trireme {

using namespace attention;

namespace {

struct BackwardScratch {
    BackwardScratch(const Sizes& s, float* memory) : cut(memory) {
        const int64_t rows = s.length * s.padded;
        keys_transposed = cut.take(s.blocks * s.transposed_block());
        values_transposed = cut.take(s.blocks * s.transposed_block());
        keys = cut.take(rows);
        queries = cut.take(rows);
        dout = cut.take(rows);
        dqueries = cut.take(rows);
        dkeys = cut.take(rows);
        dvalues = cut.take(rows);
        delta = cut.take(s.length);
        probabilities = cut.take(kQueries * kKeys);
        dscores = cut.take(kQueries * kKeys);
        factors = cut.take(kKeys);
    }
    Cutter cut;
    float *keys_transposed, *values_transposed, *keys, *queries, *dout, *dqueries, *dkeys, *dvalues,
        *delta, *probabilities, *dscores, *factors;
};

// delta[q] = dout[q] . out[q], which is the sum over keys of probability * its gradient.
template <typename T>
void pack_dout(const Sizes& s, int64_t b, int64_t head, const T* dout, const T* out,
               const BackwardScratch& w) {
    const int64_t offset = s.out_offset(b, head);
    pack(s, dout + offset, s.out_row, s.length, 1.0f, w.dout);
    for (int64_t t = 0; t < s.length; ++t) {
        const T* row = out + offset + t * s.out_row;
        const float* gradient = w.dout + t * s.padded;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < s.depth; ++d) sum += gradient[d] * static_cast<float>(row[d]);
        w.delta[t] = sum;
    }
}

void backward_block(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t head,
                    const Block& block, const float* lse, const BackwardPart& part) {
    const int64_t key_block = block.first_key / kKeys;
    const float* queries = w.queries + block.first_query * s.padded;
    const float* dout = w.dout + block.first_query * s.padded;
    multiply_transposed(s, block, queries, w.keys_transposed + key_block * s.transposed_block(),
                        w.probabilities);
    multiply_transposed(s, block, dout, w.values_transposed + key_block * s.transposed_block(),
                        w.dscores);
    for (int64_t i = 0; i < block.queries; ++i) {
        const int64_t query = block.first_query + i;
        const float* factors = row_factors(s, b, head, query, block.first_key, w.factors);
        backward_row(block.hidden(i), block.visible(i), 1.0f, lse[query], w.delta[query], factors,
                     w.probabilities + i * kKeys, w.dscores + i * kKeys);
    }
    if (part.keys) {
        const bool add = head % s.group != 0 || block.first_query != block.first_key;
        const int64_t offset = block.first_key * s.padded;
        multiply({block.keys, s.padded, block.queries, w.probabilities, 1, kKeys, dout, s.padded,
                  w.dvalues + offset, s.padded, add});
        multiply({block.keys, s.padded, block.queries, w.dscores, 1, kKeys, queries, s.padded,
                  w.dkeys + offset, s.padded, add});
    }
    if (part.queries) {
        multiply({block.queries, s.padded, block.keys, w.dscores, kKeys, 1,
                  w.keys + block.first_key * s.padded, s.padded,
                  w.dqueries + block.first_query * s.padded, s.padded,
                  key_block > s.first_key_block(b, block.first_query / kQueries)});
    }
}

template <typename T>
void backward_head(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t head,
                   const BackwardPart& part, const float* lse, T* dqkv) {
    for_blocks_of_part(s, b, part, [&](int64_t q, int64_t k) {
        backward_block(s, w, b, head, Block(s, b, q, k), lse + s.lse_offset(b, head), part);
    });
    if (!part.queries) return;
    unpack_blocks(s, part, w.dqueries, s.shape.scale, dqkv + s.query_offset(b, head), s.row);
}

// One key/value head with all query heads that share it.
template <typename T>
void backward_group(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t kv,
                    const BackwardPart& part, const T* dout, const T* qkv, const T* out,
                    const float* lse, T* dqkv) {
    pack_transposed(s, qkv + s.key_offset(b, kv), s.row, w.keys_transposed);
    pack_transposed(s, qkv + s.value_offset(b, kv), s.row, w.values_transposed);
    if (part.queries) pack(s, qkv + s.key_offset(b, kv), s.row, s.length, 1.0f, w.keys);
    for (int64_t head = kv * s.group; head < (kv + 1) * s.group; ++head) {
        pack(s, qkv + s.query_offset(b, head), s.row, s.length, s.shape.scale, w.queries);
        pack_dout(s, b, head, dout, out, w);
        backward_head(s, w, b, head, part, lse, dqkv);
    }
    if (!part.keys) return;
    unpack_blocks(s, part, w.dkeys, 1.0f, dqkv + s.key_offset(b, kv), s.row);
    unpack_blocks(s, part, w.dvalues, 1.0f, dqkv + s.value_offset(b, kv), s.row);
}

template <typename T>
void run_backward(const Sizes& s, int threads, const auto& scratch, const T* dout, const T* qkv,
                  const T* out, const float* lse, T* dqkv) {
    for_backward_parts(s, threads,
                       [&](int64_t b, int64_t kv, const BackwardPart& part, int thread) {
                           const BackwardScratch w(s, scratch(thread));
                           backward_group(s, w, b, kv, part, dout, qkv, out, lse, dqkv);
                       });
}

}  // namespace

void CpuAttention::backward(const AttentionShape& shape, const Tensor& dout, const Tensor& qkv,
                            const Tensor& out, const Tensor& lse, const Tensor& dqkv) {
    check_attention_backward(shape, dout, qkv, out, lse, dqkv);
    if (qkv.elements() == 0) return;
    if (amx_ && qkv.dtype == DType::bf16) {
        reserve(amx_backward_scratch(shape));
        amx_backward({shape, threads_, scratch(0), stride_}, dout.as<bf16>(), qkv.as<bf16>(),
                     out.as<bf16>(), lse.as<float>(), dqkv.as<bf16>());
        return;
    }
    const Sizes s(shape);
    reserve(BackwardScratch(s, nullptr).cut.used());
    const auto memory = [this](int thread) { return scratch(thread); };
    if (qkv.dtype == DType::bf16) {
        run_backward(s, threads_, memory, dout.as<bf16>(), qkv.as<bf16>(), out.as<bf16>(),
                     lse.as<float>(), dqkv.as<bf16>());
    } else {
        run_backward(s, threads_, memory, dout.as<float>(), qkv.as<float>(), out.as<float>(),
                     lse.as<float>(), dqkv.as<float>());
    }
}

}  // namespace trireme
