#include "core/cuda/tensor_core_attention.h"
#include "core/cuda/tensor_core_tile.h"

namespace trireme {

using namespace tensor_core_tile;

namespace {

// In: the unscaled score and the gradient of the dropped-out probability. Out: the dropped-out
// probability and the gradient of the scaled score, which are 0 for what is not visible, unless its
// gradient is no number. lse: in powers of two.
__device__ void backward_entry(float exponent_scale, bool visible, float lse, float delta,
                               float factor, float& score, float& gradient) {
    const float power = approximate_exp2(fmaf(score, exponent_scale, -lse));
    const float probability = visible ? power : 0.0f;
    score = probability * factor;
    gradient = probability * fmaf(gradient, factor, -delta);
}

// Products of two matrices of rows, each with a tile of a head's tokens: the second tile travels
// while the first product is made.
template <int depth, int n>
__device__ void multiply_arriving(const Head<const bf16>& first_head, Matrix<depth, n>& first,
                                  const Head<const bf16>& second_head, Matrix<depth, n>& second,
                                  int token, Matrix<depth, kTile>& first_rows,
                                  Products<n>& first_products, Matrix<depth, kTile>& second_rows,
                                  Products<n>& second_products) {
    copy_rows_async<AsColumns>(first_head, token, first);
    mark_copies();
    copy_rows_async<AsColumns>(second_head, token, second);
    mark_copies();
    wait_for_copies<1>();
    __syncthreads();
    multiply(first_rows, first, first_products);
    wait_for_copies<0>();
    __syncthreads();
    multiply(second_rows, second, second_products);
}

// Gradients of a tile of queries, over all keys before them that they see.
template <int depth, bool apart, bool dropped>
__global__ void __launch_bounds__(kThreads, 2)
    tensor_core_attention_dqueries_kernel(const AttentionShape s, const BackwardTensors<bf16> t) {
    constexpr int n = kColumnsOfTile<depth>;
    __shared__ Matrix<depth, kTile> of_queries, of_douts;
    __shared__ Matrix<depth, n> of_keys, of_values;
    const int64_t b = blockIdx.x / s.heads;
    const int head = static_cast<int>(blockIdx.x) % s.heads;
    const int kv = head / (s.heads / s.kv_heads);
    const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kTile;
    const auto keys = packed_head(s, t.qkv, b, s.heads + kv);
    const auto values = packed_head(s, t.qkv, b, s.heads + s.kv_heads + kv);
    copy_rows_async<AsRows>(packed_head(s, t.qkv, b, head), first_query, of_queries);
    copy_rows_async<AsRows>(output_head(s, t.dout, b, head), first_query, of_douts);
    mark_copies();

    const Documents<apart, !dropped> documents(s, t.document_begin, b);
    const float exponent_scale = s.scale * kLog2E;
    const int tokens = static_cast<int>(s.sequence);
    const int query = first_query + first_row();
    float lse[kRows], delta[kRows];
    int first_seen[kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
        const int64_t at = row_statistics(s, b, head) + query + row;
        lse[row] = query + row < tokens ? t.lse[at] * kLog2E : 0.0f;
        delta[row] = query + row < tokens ? t.delta[at] : 0.0f;
        first_seen[row] = documents.first_key(query + row);
    }
    Products<depth> sums;
    for (int first_key = documents.first_key_tile(first_query);
         first_key < first_query + kTile && first_key < tokens; first_key += n) {
        Products<n> scores, gradients;
        multiply_arriving(keys, of_keys, values, of_values, first_key, of_queries, scores, of_douts,
                          gradients);

        const int first = first_key + first_column();
#pragma unroll
        for (int group = 0; group < n / 16; ++group) {
            const int key = first + 16 * group;
#pragma unroll
            for (int row = 0; row < kRows; ++row) {
                float kept[kColumns] = {1.0f, 1.0f, 1.0f, 1.0f};
                if constexpr (dropped) {
                    dropout_factors(s, b, head, query + row, key, kept);
                }
#pragma unroll
                for (int c = 0; c < kColumns; ++c) {
                    const bool visible =
                        key + c <= query + row && documents.sees(first_seen[row], key + c);
                    backward_entry(exponent_scale, visible, lse[row], delta[row], kept[c],
                                   scores.at(row, group, c), gradients.at(row, group, c));
                }
            }
        }
        add_weighted(gradients, of_keys, sums);
        __syncthreads();  // keys and values have been used
    }
    const float factors[kRows] = {s.scale, s.scale};
    store(sums, factors, of_queries, packed_head(s, t.dqkv, b, head), first_query);
}

// Gradients of a tile of keys and values, over all queries from them on that see them, of all query
// heads that share them. Products have keys as rows here.
template <int depth, bool apart, bool dropped>
__global__ void __launch_bounds__(kThreads, 2)
    tensor_core_attention_dkeys_kernel(const AttentionShape s, const BackwardTensors<bf16> t) {
    constexpr int n = kColumnsOfTile<depth>;
    __shared__ Matrix<depth, kTile> of_keys, of_values;
    __shared__ Matrix<depth, n> of_queries, of_douts;
    const int64_t b = blockIdx.x / s.kv_heads;
    const int kv = static_cast<int>(blockIdx.x) % s.kv_heads;
    const int group_size = s.heads / s.kv_heads;
    const int first_key = static_cast<int>(blockIdx.y) * kTile;
    copy_rows_async<AsRows>(packed_head(s, t.qkv, b, s.heads + kv), first_key, of_keys);
    copy_rows_async<AsRows>(packed_head(s, t.qkv, b, s.heads + s.kv_heads + kv), first_key,
                            of_values);
    mark_copies();

    const Documents<apart, !dropped> documents(s, t.document_begin, b);
    const float exponent_scale = s.scale * kLog2E;
    const int tokens = static_cast<int>(s.sequence);
    const int key = first_key + first_row();
    Products<depth> dkeys, dvalues;
    for (int head = kv * group_size; head < (kv + 1) * group_size; ++head) {
        const auto queries = packed_head(s, t.qkv, b, head);
        const auto douts = output_head(s, t.dout, b, head);
        const int64_t statistics = row_statistics(s, b, head);
        for (int first_query = first_key; first_query < tokens; first_query += n) {
            if (documents.first_key_tile(first_query) > first_key) break;  // nor do those behind
            Products<n> scores, gradients;
            multiply_arriving(queries, of_queries, douts, of_douts, first_query, of_keys, scores,
                              of_values, gradients);

#pragma unroll
            for (int group = 0; group < n / 16; ++group) {
#pragma unroll
                for (int c = 0; c < kColumns; ++c) {
                    const int query = first_query + first_column() + 16 * group + c;
                    const bool within = query < tokens;
                    const float lse = within ? t.lse[statistics + query] * kLog2E : 0.0f;
                    const float delta = within ? t.delta[statistics + query] : 0.0f;
                    const int first_seen = documents.first_key(query);
                    float kept[kRows] = {1.0f, 1.0f};
                    if constexpr (dropped) {
                        dropout_factors(s, b, head, query, key, kept);
                    }
#pragma unroll
                    for (int row = 0; row < kRows; ++row) {
                        const bool visible =
                            within && key + row <= query && documents.sees(first_seen, key + row);
                        backward_entry(exponent_scale, visible, lse, delta, kept[row],
                                       scores.at(row, group, c), gradients.at(row, group, c));
                    }
                }
            }
            add_weighted(scores, of_douts, dvalues);
            add_weighted(gradients, of_queries, dkeys);
            __syncthreads();  // queries and gradients of outputs have been used
        }
    }
    const float scales[kRows] = {s.scale, s.scale};
    const float ones[kRows] = {1.0f, 1.0f};
    store(dkeys, scales, of_keys, packed_head(s, t.dqkv, b, s.heads + kv), first_key);
    store(dvalues, ones, of_values, packed_head(s, t.dqkv, b, s.heads + s.kv_heads + kv),
          first_key);
}

}  // namespace

void tensor_core_attention_backward(cudaStream_t stream, const AttentionShape& shape,
                                    const Tensor& dout, const Tensor& qkv, const Tensor& lse,
                                    const float* delta, const Tensor& dqkv) {
    const BackwardTensors<bf16> tensors{dout.as<bf16>(), qkv.as<bf16>(),  lse.as<float>(),
                                        delta,           dqkv.as<bf16>(), document_begins(shape)};
    with_depth(shape, [&]<int depth, bool apart, bool dropped>() {
        launch(tensor_core_attention_dkeys_kernel<depth, apart, dropped>,
               tile_grid(shape.batch * shape.kv_heads, shape), stream, shape, tensors);
        launch(tensor_core_attention_dqueries_kernel<depth, apart, dropped>,
               tile_grid(shape.batch * shape.heads, shape), stream, shape, tensors);
    });
}

}  // namespace trireme
