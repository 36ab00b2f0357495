#include "core/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/cpu/attention_block.h"
#include "core/cpu/attention_dropout.h"
#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/cpu/parallel_for.h"
#include "core/formulas.h"

namespace trireme {

namespace {

constexpr int64_t kQueries = 64;  // in a block
constexpr int kKeys = 64;

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

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
    explicit Sizes(const AttentionShape& s)
        : shape(s), depth(s.head_dim), padded(round_up(depth, kLanes)), length(s.sequence),
          group(s.heads / s.kv_heads), blocks(round_up(length, kKeys) / kKeys),
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
    uint64_t dropout_element(int64_t b, int64_t head, int64_t query, int64_t key) const {
        return shape.dropout.first_element +
               static_cast<uint64_t>(
                   ((b * shape.heads_global + head) * length + query) * length + key);
    }

    const AttentionShape& shape;
    int64_t depth;    // of a head
    int64_t padded;   // the same in scratch memory, in whole vectors
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

void multiply_by(const float* factors, float* row) {
#pragma omp simd
    for (int j = 0; j < kKeys; ++j) row[j] *= factors[j];
}

// The keys of one block that a block of queries sees.
struct Block {
    int64_t first_query, queries;
    int64_t first_key, keys;

    Block(const Sizes& s, int64_t query_block, int64_t key_block)
        : first_query(query_block * kQueries),
          queries(std::min(kQueries, s.length - first_query)), first_key(key_block * kKeys),
          keys(std::min<int64_t>(kKeys, first_query + queries - first_key)) {}

    // Keys that query i of the block may see.
    int visible(int64_t i) const {
        return static_cast<int>(std::min<int64_t>(keys, first_query + i + 1 - first_key));
    }
};

// scores [queries, kKeys] = queries times a transposed block of keys (or values).
void multiply_transposed(const Sizes& s, const Block& block, const float* rows,
                         const float* transposed, float* scores) {
    multiply({block.queries, round_up(block.keys, kLanes), s.depth, rows, s.padded, 1, transposed,
              kKeys, scores, kKeys, false});
}

// ---- forward -------------------------------------------------------------------------------

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
// output up to date. Keys from `visible` on get 0.
void softmax_row(const Sizes& s, int visible, bool first, float* scores, float& maximum,
                 float& sum, float* out) {
    for (int j = visible; j < kKeys; ++j) scores[j] = -std::numeric_limits<float>::infinity();
    float top = first ? -std::numeric_limits<float>::infinity() : maximum;
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

// The queries of one block and head against all keys before them.
template <typename T>
void forward_block(const Sizes& s, const ForwardScratch& w, int64_t b, int64_t head,
                   int64_t query_block, const T* qkv, T* out, float* lse) {
    const Dropout& dropout = s.shape.dropout;
    const int64_t first = query_block * kQueries;
    const int64_t queries = std::min(kQueries, s.length - first);
    pack(s, qkv + s.query_offset(b, head) + first * s.row, s.row, queries, s.shape.scale,
         w.queries);
    for (int64_t key_block = 0; key_block <= query_block; ++key_block) {
        const Block block(s, query_block, key_block);
        multiply_transposed(s, block, w.queries, w.keys + key_block * s.transposed_block(),
                            w.scores);
        for (int64_t i = 0; i < queries; ++i) {
            float* row = w.scores + i * kKeys;
            softmax_row(s, block.visible(i), key_block == 0, row, w.maximum[i], w.sum[i],
                        w.out + i * s.padded);
            if (dropout.probability > 0.0f) {
                dropout_factors<kKeys>(dropout.key, dropout.stream,
                                       s.dropout_element(b, head, first + i, block.first_key),
                                       dropout.probability, w.factors);
                multiply_by(w.factors, row);
            }
        }
        multiply({queries, s.padded, block.keys, w.scores, kKeys, 1,
                  w.values + block.first_key * s.padded, s.padded, w.out, s.padded,
                  key_block > 0});
    }
    T* to = out + s.out_offset(b, head) + first * s.out_row;
    for (int64_t i = 0; i < queries; ++i) {
        unpack(s, w.out + i * s.padded, 1, 1.0f / w.sum[i], to + i * s.out_row, s.out_row);
        lse[s.lse_offset(b, head) + first + i] = w.maximum[i] + std::log(w.sum[i]);
    }
}

// ---- backward ------------------------------------------------------------------------------

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

// ---- checks and threads ----------------------------------------------------------------------

void check_shape(const AttentionShape& s, const Tensor& qkv, const Tensor& out, const Tensor& lse) {
    TRIREME_CHECK(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0 && s.head_dim > 0,
                  "attention heads that the key/value heads divide");
    TRIREME_CHECK(s.dropout.probability == 0.0f || s.heads_global >= s.heads,
                  "the model's number of heads for attention dropout");
    const int64_t tokens = s.batch * s.sequence;
    TRIREME_CHECK(qkv.elements() == tokens * (s.heads + 2 * s.kv_heads) * s.head_dim &&
                      out.elements() == tokens * s.heads * s.head_dim &&
                      lse.elements() == tokens * s.heads && lse.dtype == DType::f32 &&
                      out.dtype == qkv.dtype,
                  "attention tensors qkv, out and lse of the shape's sizes");
}

// Into how many parts the blocks of each of `units` heads are dealt, so that all threads work.
int64_t parts_for(int threads, int64_t units, int64_t enough, int64_t blocks) {
    if (threads == 1 || units >= enough) return 1;
    return std::min(blocks, (4 * threads + units - 1) / units);
}

template <typename T>
void run_forward(const Sizes& s, int threads, const auto& scratch, const T* qkv, T* out,
                 float* lse) {
    const int64_t units = s.shape.batch * s.shape.kv_heads;
    const int64_t parts = parts_for(threads, units, 4 * threads, s.blocks);
    parallel_tasks(threads, units * parts, [&](int64_t task, int thread) {
        const int64_t b = task / parts / s.shape.kv_heads;
        const int64_t kv = task / parts % s.shape.kv_heads;
        const ForwardScratch w(s, scratch(thread));
        pack_transposed(s, qkv + s.key_offset(b, kv), s.row, w.keys);
        pack(s, qkv + s.value_offset(b, kv), s.row, s.length, 1.0f, w.values);
        for (int64_t head = kv * s.group; head < (kv + 1) * s.group; ++head) {
            for (int64_t q = task % parts; q < s.blocks; q += parts) {
                forward_block(s, w, b, head, q, qkv, out, lse);
            }
        }
    });
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

CpuAttention::CpuAttention(int threads) : threads_(threads) {}

void CpuAttention::reserve(int64_t floats) {
    constexpr int64_t kPage = 1024;  // floats: threads must not share pages
    if (floats <= stride_) return;
    stride_ = round_up(floats, kPage);
    scratch_.assign(static_cast<size_t>(stride_ * threads_ + kPage), 0.0f);
    const auto address = reinterpret_cast<uintptr_t>(scratch_.data()) / sizeof(float);
    align_ = static_cast<int64_t>((kPage - address % kPage) % kPage);
}

void CpuAttention::forward(const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                           const Tensor& lse) {
    check_shape(shape, qkv, out, lse);
    if (qkv.elements() == 0) return;
    const Sizes s(shape);
    reserve(ForwardScratch(s, nullptr).cut.used());
    const auto memory = [this](int thread) { return scratch(thread); };
    if (qkv.dtype == DType::bf16) {
        run_forward(s, threads_, memory, qkv.as<bf16>(), out.as<bf16>(), lse.as<float>());
    } else {
        run_forward(s, threads_, memory, qkv.as<float>(), out.as<float>(), lse.as<float>());
    }
}

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

void CpuOps::attention_forward(Stream&, const AttentionShape& shape, const Tensor& qkv,
                               const Tensor& out, const Tensor& lse) {
    attention_->forward(shape, qkv, out, lse);
}

void CpuOps::attention_backward(Stream&, const AttentionShape& shape, const Tensor& dout,
                                const Tensor& qkv, const Tensor& out, const Tensor& lse,
                                const Tensor& dqkv) {
    attention_->backward(shape, dout, qkv, out, lse, dqkv);
}

}  // namespace trireme
