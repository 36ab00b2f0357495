#include "core/cuda/attention.h"
#include "core/cuda/attention_tile.h"
#include "core/cuda/tensor_core_attention.h"

namespace trireme {

using namespace attention_tile;

namespace {

constexpr int kDeltaLanes = 8;  // threads that share a row: 128 bytes at a time

// delta[b, head, q] = dout . out of a query, which is the sum over keys of probability times its
// gradient.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    attention_delta_kernel(const AttentionShape s, const T* dout, const T* out, float* delta) {
    const int64_t rows = s.batch * s.sequence * s.heads;  // of head_dim elements
    const int64_t row = grid_first() / kDeltaLanes;
    const int lane = static_cast<int>(threadIdx.x) % kDeltaLanes;
    float sum = 0.0f;
    if (row < rows) {
#pragma unroll 2
        for (int d = lane * n; d < s.head_dim; d += kDeltaLanes * n) {
            const Floats<n> a = load_floats<n>(dout + row * s.head_dim + d);
            const Floats<n> b = load_floats<n>(out + row * s.head_dim + d);
#pragma unroll
            for (int k = 0; k < n; ++k) sum += a[k] * b[k];
        }
    }
#pragma unroll
    for (int offset = kDeltaLanes / 2; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    if (row >= rows || lane != 0) return;
    const int64_t token = row / s.heads;
    const int head = static_cast<int>(row % s.heads);
    delta[row_statistics(s, token / s.sequence, head) + token % s.sequence] = sum;
}

// One entry of the matrix of scores: in, the scaled score and the gradient of the dropped-out
// probability; out, the dropped-out probability and the gradient of the scaled score.
__device__ void backward_entry(bool visible, float lse, float delta, float factor, float& score,
                               float& gradient) {
    const float probability = visible ? fast_exp(score - lse) : 0.0f;
    score = probability * factor;
    gradient = visible ? probability * (gradient * factor - delta) : 0.0f;
}

// Gradients of a tile of queries, over all keys before them that they see.
template <typename T, int n, int chunks, bool apart>
__global__ void __launch_bounds__(kThreads, 3)
    attention_dqueries_kernel(const AttentionShape s, const BackwardTensors<T> t) {
    __shared__ Tile x, y;
    const int64_t b = blockIdx.x / s.heads;
    const int head = static_cast<int>(blockIdx.x) % s.heads;
    const int kv = head / (s.heads / s.kv_heads);
    const int64_t first_query = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * kTile;
    const int first_chunk = static_cast<int>(blockIdx.z) * chunks * kTile;
    const auto queries = packed_head(s, t.qkv, b, head, s.scale);
    const auto douts = output_head(s, t.dout, b, head);
    const auto keys = packed_head(s, t.qkv, b, s.heads + kv);
    const auto values = packed_head(s, t.qkv, b, s.heads + s.kv_heads + kv);

    const Documents<apart> documents(s, t.document_begin, b);

    const int64_t query = first_query + first_row();
    float lse[kRows], delta[kRows], factors[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        const int64_t at = row_statistics(s, b, head) + query + i;
        lse[i] = query + i < s.sequence ? t.lse[at] : 0.0f;
        delta[i] = query + i < s.sequence ? t.delta[at] : 0.0f;
        factors[i] = s.scale;
    }
    Part sums[chunks] = {};
    for (int64_t first_key = documents.first_key_tile(first_query); first_key <= first_query;
         first_key += kTile) {
        const int64_t key = first_key + first_column();
        Part scores, gradients;
        multiply_heads<n>(queries, first_query, keys, first_key, x, y, scores);
        multiply_heads<n>(douts, first_query, values, first_key, x, y, gradients);
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            float kept[kColumns] = {1.0f, 1.0f, 1.0f, 1.0f};
            if (s.dropout.probability > 0.0f) dropout_factors(s, b, head, query + i, key, kept);
            const int64_t first = documents.first_key(query + i);
#pragma unroll
            for (int j = 0; j < kColumns; ++j) {
                const bool visible = key + j <= query + i && documents.sees(first, key + j);
                backward_entry(visible, lse[i], delta[i], kept[j], scores[i][j], gradients[i][j]);
            }
        }
        add_weighted_rows<n>(gradients, keys, first_key, first_chunk, x, y, sums);
    }
    store_rows<n>(sums, factors, packed_head(s, t.dqkv, b, head), first_query, first_chunk);
}

// Gradients of a tile of keys and values, over all queries from them on that see them, of all query
// heads that share them. Products have keys as rows here.
template <typename T, int n, int chunks, bool apart>
__global__ void __launch_bounds__(kThreads, chunks == 1 ? 3 : 2)
    attention_dkeys_kernel(const AttentionShape s, const BackwardTensors<T> t) {
    __shared__ Tile x, y;
    const int64_t b = blockIdx.x / s.kv_heads;
    const int kv = static_cast<int>(blockIdx.x) % s.kv_heads;
    const int group = s.heads / s.kv_heads;
    const int64_t first_key = static_cast<int64_t>(blockIdx.y) * kTile;
    const int first_chunk = static_cast<int>(blockIdx.z) * chunks * kTile;
    const auto keys = packed_head(s, t.qkv, b, s.heads + kv);
    const auto values = packed_head(s, t.qkv, b, s.heads + s.kv_heads + kv);

    const Documents<apart> documents(s, t.document_begin, b);

    const int64_t key = first_key + first_row();
    Part dkeys[chunks] = {}, dvalues[chunks] = {};
    for (int head = kv * group; head < (kv + 1) * group; ++head) {
        const auto queries = packed_head(s, t.qkv, b, head, s.scale);
        const auto douts = output_head(s, t.dout, b, head);
        for (int64_t first_query = first_key; first_query < s.sequence; first_query += kTile) {
            if (documents.first_key_tile(first_query) > first_key) break;  // nor do those behind
            const int64_t query = first_query + first_column();
            Part scores, gradients;
            multiply_heads<n>(keys, first_key, queries, first_query, x, y, scores);
            multiply_heads<n>(values, first_key, douts, first_query, x, y, gradients);
#pragma unroll
            for (int j = 0; j < kColumns; ++j) {
                const bool within = query + j < s.sequence;
                const int64_t at = row_statistics(s, b, head) + query + j;
                const float lse = within ? t.lse[at] : 0.0f;
                const float delta = within ? t.delta[at] : 0.0f;
                float kept[kRows] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
                if (s.dropout.probability > 0.0f) dropout_factors(s, b, head, query + j, key, kept);
                const int64_t first = documents.first_key(query + j);
#pragma unroll
                for (int i = 0; i < kRows; ++i) {
                    const bool visible =
                        within && key + i <= query + j && documents.sees(first, key + i);
                    backward_entry(visible, lse, delta, kept[i], scores[i][j], gradients[i][j]);
                }
            }
            add_weighted_rows<n>(scores, douts, first_query, first_chunk, x, y, dvalues);
            add_weighted_rows<n>(gradients, queries, first_query, first_chunk, x, y, dkeys);
        }
    }
    const float factors[kRows] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    store_rows<n>(dkeys, factors, packed_head(s, t.dqkv, b, s.heads + kv), first_key, first_chunk);
    store_rows<n>(dvalues, factors, packed_head(s, t.dqkv, b, s.heads + s.kv_heads + kv), first_key,
                  first_chunk);
}

}  // namespace

void own_attention_backward(cudaStream_t stream, Scratch& scratch, const AttentionShape& shape,
                            const Tensor& dout, const Tensor& qkv, const Tensor& out,
                            const Tensor& lse, const Tensor& dqkv) {
    const int64_t rows = shape.batch * shape.sequence * shape.heads;
    auto* delta = scratch.reserve_elements<float>(rows);
    with_packs(qkv.dtype, shape.head_dim, {dout.data, out.data}, [&]<typename T, int n>() {
        const auto blocks = static_cast<unsigned>(divide_up(rows * kDeltaLanes, kBlockThreads));
        launch(attention_delta_kernel<T, n>, {dim3(blocks), dim3(kBlockThreads)}, stream, shape,
               dout.as<T>(), out.as<T>(), delta);
    });
    if (takes_tensor_cores(shape, {dout, qkv, dqkv})) {
        tensor_core_attention_backward(stream, shape, dout, qkv, lse, delta, dqkv);
        return;
    }
    with_chunks(shape, qkv.dtype, {dout.data, qkv.data, dqkv.data},
                [&]<typename T, int n, int chunks, bool apart>() {
                    const BackwardTensors<T> tensors{dout.as<T>(),    qkv.as<T>(),
                                                     lse.as<float>(), delta,
                                                     dqkv.as<T>(),    document_begins(shape)};
                    launch(attention_dkeys_kernel<T, n, chunks, apart>,
                           tile_grid_of_parts(shape.batch * shape.kv_heads, shape, chunks), stream,
                           shape, tensors);
                    launch(attention_dqueries_kernel<T, n, chunks, apart>,
                           tile_grid_of_parts(shape.batch * shape.heads, shape, chunks), stream,
                           shape, tensors);
                });
}

}  // namespace trireme
