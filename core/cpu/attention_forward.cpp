#include "core/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/attention_checks.h"
#include "core/cpu/attention_amx.h"
#include "core/cpu/attention_layout.h"
#include "core/cpu/attention_parts.h"
#include "core/cpu/attention_rows.h"

namespace trireme {

using namespace attention;

namespace {

struct ForwardScratch {
    ForwardScratch(const Sizes& s, float* memory) : cut(memory) {
        keys = cut.take(s.blocks * s.transposed_block());
        values = cut.take(s.length * s.padded);
        queries = cut.take(kQueries * s.padded);
        out = cut.take(kQueries * s.padded);
        scores = cut.take(kQueries * kKeys);
        maximum = cut.take(kQueries);
        sum = cut.take(kQueries);
        factors = cut.take(kKeys);
    }
    Cutter cut;
    float *keys, *values, *queries, *out, *scores, *maximum, *sum, *factors;
};

// Turns a row of scores into exp(score - maximum) and brings the row's running maximum, sum and
// output up to date. Keys before `hidden` and from `visible` on get 0; where that is all of them,
// the maximum stays a number, so that no difference of infinities is taken.
void softmax_row(const Sizes& s, int hidden, int visible, bool first, float* scores, float& maximum,
                 float& sum, float* out) {
    for (int j = 0; j < hidden; ++j) scores[j] = -std::numeric_limits<float>::infinity();
    for (int j = visible; j < kKeys; ++j) scores[j] = -std::numeric_limits<float>::infinity();
    float top = first ? std::numeric_limits<float>::lowest() : maximum;
#pragma omp simd reduction(max : top)
    for (int j = 0; j < kKeys; ++j) top = scores[j] > top ? scores[j] : top;
    float added = 0.0f;
#pragma omp simd reduction(+ : added)
    for (int j = 0; j < kKeys; ++j) {
        scores[j] = exp_of_negative(scores[j] - top);
        added += scores[j];
    }
    if (first) {
        sum = added;
    } else if (top == maximum) {
        sum += added;
    } else {
        const float shrink = exp_of_negative(maximum - top);
        sum = sum * shrink + added;
#pragma omp simd
        for (int64_t d = 0; d < s.padded; ++d) out[d] *= shrink;
    }
    maximum = top;
}

// The queries of one block and head against all keys before them that they see.
template <typename T>
void forward_block(const Sizes& s, const ForwardScratch& w, int64_t b, int64_t head,
                   int64_t query_block, const T* qkv, T* out, float* lse) {
    const int64_t first = query_block * kQueries;
    const int64_t queries = std::min(kQueries, s.length - first);
    const int64_t begin = std::max<int64_t>(0, s.shape.first_query - first);
    pack(s, qkv + s.query_offset(b, head) + (first + begin) * s.row, s.row, queries - begin,
         s.shape.scale, w.queries + begin * s.padded);
    const int64_t first_block = s.first_key_block(b, query_block);
    for (int64_t key_block = first_block; key_block <= query_block; ++key_block) {
        const Block block(s, b, query_block, key_block);
        multiply_transposed(s, block, w.queries, w.keys + key_block * s.transposed_block(),
                            w.scores, begin);
        for (int64_t i = begin; i < queries; ++i) {
            float* row = w.scores + i * kKeys;
            softmax_row(s, block.hidden(i), block.visible(i), key_block == first_block, row,
                        w.maximum[i], w.sum[i], w.out + i * s.padded);
            const float* factors = row_factors(s, b, head, first + i, block.first_key, w.factors);
            if (factors) multiply_by(factors, row);
        }
        multiply({queries - begin, s.padded, block.keys, w.scores + begin * kKeys, kKeys, 1,
                  w.values + block.first_key * s.padded, s.padded, w.out + begin * s.padded,
                  s.padded, key_block > first_block});
    }
    T* to = out + s.out_offset(b, head) + first * s.out_row;
    for (int64_t i = begin; i < queries; ++i) {
        unpack(s, w.out + i * s.padded, 1, 1.0f / w.sum[i], to + i * s.out_row, s.out_row);
        lse[s.lse_offset(b, head) + first + i] = w.maximum[i] + std::log(w.sum[i]);
    }
}

template <typename T>
void run_forward(const Sizes& s, int threads, const auto& scratch, const T* qkv, T* out,
                 float* lse) {
    for_forward_parts(s, threads,
                      [&](int64_t b, int64_t kv, int64_t first, int64_t step, int thread) {
                          const ForwardScratch w(s, scratch(thread));
                          pack_transposed(s, qkv + s.key_offset(b, kv), s.row, w.keys);
                          pack(s, qkv + s.value_offset(b, kv), s.row, s.length, 1.0f, w.values);
                          for (int64_t head = kv * s.group; head < (kv + 1) * s.group; ++head) {
                              for (int64_t q = first; q < s.blocks; q += step) {
                                  forward_block(s, w, b, head, q, qkv, out, lse);
                              }
                          }
                      });
}

}  // namespace

void CpuAttention::forward(const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                           const Tensor& lse) {
    check_attention(shape, qkv, out, lse);
    if (qkv.elements() == 0 || shape.first_query == shape.sequence) return;
    if (amx_ && qkv.dtype == DType::bf16) {
        reserve(amx_forward_scratch(shape));
        amx_forward({shape, threads_, scratch(0), stride_}, qkv.as<bf16>(), out.as<bf16>(),
                    lse.as<float>());
        return;
    }
    const Sizes s(shape);
    reserve(ForwardScratch(s, nullptr).cut.used());
    const auto memory = [this](int thread) { return scratch(thread); };
    if (qkv.dtype == DType::bf16) {
        run_forward(s, threads_, memory, qkv.as<bf16>(), out.as<bf16>(), lse.as<float>());
    } else {
        run_forward(s, threads_, memory, qkv.as<float>(), out.as<float>(), lse.as<float>());
    }
}

}  // namespace trireme
