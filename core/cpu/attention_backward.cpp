#include "core/cpu/attention.h"

#include <algorithm>
#include <cstdint>

#include "core/cpu/attention_dropout.h"
#include "core/cpu/attention_layout.h"
#include "core/cpu/parallel_for.h"

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
    float *keys_transposed, *values_transposed, *keys, *queries, *dout, *dqueries, *dkeys,
        *dvalues, *delta, *probabilities, *dscores, *factors;
};

// What a backward task makes: gradients of every `step`th block, from `first`, of one side or,
// with step 1, of both. Each gradient is summed in the same order in all three cases.
struct BackwardPart {
    bool queries = true;
    bool keys = true;
    int64_t first = 0;
    int64_t step = 1;
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

// In: a row of scores and of the gradient of the dropped-out probabilities. Out: the dropped-out
// probabilities and the gradient of the scores.
void backward_row(int visible, float lse, float delta, const float* factors, float* scores,
                  float* gradient) {
    if (factors) {
#pragma omp simd
        for (int j = 0; j < kKeys; ++j) {
            const float probability = exp_of_negative(scores[j] - lse);
            scores[j] = probability * factors[j];
            gradient[j] = probability * (gradient[j] * factors[j] - delta);
        }
    } else {
#pragma omp simd
        for (int j = 0; j < kKeys; ++j) {
            const float probability = exp_of_negative(scores[j] - lse);
            scores[j] = probability;
            gradient[j] = probability * (gradient[j] - delta);
        }
    }
    for (int j = visible; j < kKeys; ++j) scores[j] = gradient[j] = 0.0f;
}

void backward_block(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t head,
                    const Block& block, const float* lse, const BackwardPart& part) {
    const Dropout& dropout = s.shape.dropout;
    const int64_t key_block = block.first_key / kKeys;
    const float* queries = w.queries + block.first_query * s.padded;
    const float* dout = w.dout + block.first_query * s.padded;
    multiply_transposed(s, block, queries, w.keys_transposed + key_block * s.transposed_block(),
                        w.probabilities);
    multiply_transposed(s, block, dout, w.values_transposed + key_block * s.transposed_block(),
                        w.dscores);
    for (int64_t i = 0; i < block.queries; ++i) {
        const int64_t query = block.first_query + i;
        const bool drops = dropout.probability > 0.0f;
        if (drops) {
            dropout_factors<kKeys>(dropout.key, dropout.stream,
                                   s.dropout_element(b, head, query, block.first_key),
                                   dropout.probability, w.factors);
        }
        backward_row(block.visible(i), lse[query], w.delta[query], drops ? w.factors : nullptr,
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
                  w.dqueries + block.first_query * s.padded, s.padded, key_block > 0});
    }
}

template <typename T>
void backward_head(const Sizes& s, const BackwardScratch& w, int64_t b, int64_t head,
                   const BackwardPart& part, const float* lse, T* dqkv) {
    const int64_t key_step = part.keys ? part.step : 1;
    const int64_t query_step = part.queries ? part.step : 1;
    for (int64_t k = part.keys ? part.first : 0; k < s.blocks; k += key_step) {
        // The first block of the part's queries that sees these keys.
        const int64_t begin = part.queries ? part.first : 0;
        const int64_t skipped = std::max<int64_t>(0, k - begin);
        for (int64_t q = begin + round_up(skipped, query_step); q < s.blocks; q += query_step) {
            backward_block(s, w, b, head, Block(s, q, k), lse + s.lse_offset(b, head), part);
        }
    }
    if (!part.queries) return;
    for (int64_t q = part.first; q < s.blocks; q += part.step) {
        const int64_t first = q * kQueries;
        unpack(s, w.dqueries + first * s.padded, std::min(kQueries, s.length - first),
               s.shape.scale, dqkv + s.query_offset(b, head) + first * s.row, s.row);
    }
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
    for (int64_t k = part.first; k < s.blocks; k += part.step) {
        const int64_t first = k * kKeys;
        const int64_t keys = std::min<int64_t>(kKeys, s.length - first);
        unpack(s, w.dkeys + first * s.padded, keys, 1.0f,
               dqkv + s.key_offset(b, kv) + first * s.row, s.row);
        unpack(s, w.dvalues + first * s.padded, keys, 1.0f,
               dqkv + s.value_offset(b, kv) + first * s.row, s.row);
    }
}

template <typename T>
void run_backward(const Sizes& s, int threads, const auto& scratch, const T* dout, const T* qkv,
                  const T* out, const float* lse, T* dqkv) {
    // A part makes the gradients of one side only, and the probabilities are made twice: worth it
    // only where threads would else have nothing to do.
    const int64_t units = s.shape.batch * s.shape.kv_heads;
    const int64_t parts = parts_for(threads, units, threads, s.blocks);
    const int64_t sides = parts == 1 ? 1 : 2;
    parallel_tasks(threads, units * parts * sides, [&](int64_t task, int thread) {
        const int64_t unit = task / sides / parts;
        BackwardPart part;
        if (sides == 2) {
            part.queries = task % 2 == 0;
            part.keys = !part.queries;
            part.first = task / sides % parts;
            part.step = parts;
        }
        const BackwardScratch w(s, scratch(thread));
        backward_group(s, w, unit / s.shape.kv_heads, unit % s.shape.kv_heads, part, dout, qkv,
                       out, lse, dqkv);
    });
}

}  // namespace

void CpuAttention::backward(const AttentionShape& shape, const Tensor& dout, const Tensor& qkv,
                            const Tensor& out, const Tensor& lse, const Tensor& dqkv) {
    check_shape(shape, qkv, out, lse);
    TRIREME_CHECK(dout.elements() == out.elements() && dqkv.elements() == qkv.elements() &&
                      dout.dtype == qkv.dtype && dqkv.dtype == qkv.dtype,
                  "attention gradients of the sizes and type of their tensors");
    if (qkv.elements() == 0) return;
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
