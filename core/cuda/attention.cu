#include "core/cuda/attention.h"

#include <cfloat>

#include "core/cuda/attention_tile.h"
#include "core/cuda/tensor_core_attention.h"

namespace trireme {

using namespace attention_tile;

namespace {

// A row of scores is shared by the threads of half a warp.
__device__ float half_warp_max(float value) {
#pragma unroll
    for (int lane = kColumnGroups / 2; lane > 0; lane /= 2) {
        value = Max()(value, __shfl_xor_sync(0xffffffffu, value, lane));
    }
    return value;
}
__device__ float half_warp_sum(float value) {
#pragma unroll
    for (int lane = kColumnGroups / 2; lane > 0; lane /= 2) {
        value = Sum()(value, __shfl_xor_sync(0xffffffffu, value, lane));
    }
    return value;
}

// The running maximum and sum of this thread's rows. The sum is of this thread's columns only.
struct RowState {
    float maximum[kRows];
    float sum[kRows];
};

// In: scores of keys from `key` on. Out: exp(score - maximum), 0 for keys that a query does not
// see. Sums so far are brought down to the new maximum.
template <bool apart, int chunks>
__device__ void update_softmax(const Documents<apart>& documents, int64_t query, int64_t key,
                               Part& scores, RowState& state, Part (&sums)[chunks]) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        const int64_t visible = query + i - key;  // columns up to this one
        const int64_t first = documents.first_key(query + i);
        const auto sees = [&](int j) { return j <= visible && documents.sees(first, key + j); };
        float top = Max::identity<float>();
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
            if (sees(j)) top = Max()(scores[i][j], top);
        }
        top = Max()(half_warp_max(top), state.maximum[i]);
        const float shrink = fast_exp(state.maximum[i] - top);
        state.maximum[i] = top;
        state.sum[i] *= shrink;
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
            scores[i][j] = sees(j) ? fast_exp(scores[i][j] - top) : 0.0f;
            state.sum[i] += scores[i][j];
        }
#pragma unroll
        for (int c = 0; c < chunks; ++c) {
#pragma unroll
            for (int u = 0; u < kColumns; ++u) sums[c][i][u] *= shrink;
        }
    }
}

__device__ void drop_out(const AttentionShape& s, int64_t b, int head, int64_t query, int64_t key,
                         Part& weights) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        float factors[kColumns];
        dropout_factors(s, b, head, query + i, key, factors);
#pragma unroll
        for (int j = 0; j < kColumns; ++j) weights[i][j] *= factors[j];
    }
}

// A tile of queries against all keys before them that they see.
template <typename T, int n, int chunks, bool apart>
__global__ void __launch_bounds__(kThreads, 3)
    attention_forward_kernel(const AttentionShape s, const int32_t* document_begin, const T* qkv,
                             T* out, float* lse) {
    __shared__ Tile x, y;
    const int64_t b = blockIdx.x / s.heads;
    const int head = static_cast<int>(blockIdx.x) % s.heads;
    const int kv = head / (s.heads / s.kv_heads);
    // The last queries see the most keys: they go first.
    const int64_t first_query =
        (first_query_tile(s) + static_cast<int64_t>(gridDim.y - 1 - blockIdx.y)) * kTile;
    const int first_chunk = static_cast<int>(blockIdx.z) * chunks * kTile;
    const auto queries = packed_head(s, qkv, b, head, s.scale);
    const auto keys = packed_head(s, qkv, b, s.heads + kv);
    const auto values = packed_head(s, qkv, b, s.heads + s.kv_heads + kv);

    const Documents<apart> documents(s, document_begin, b);

    RowState state;
    Part sums[chunks] = {};
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        // A number: no difference of infinities where a row sees none of its first tile's keys.
        state.maximum[i] = -FLT_MAX;
        state.sum[i] = 0.0f;
    }
    const int64_t query = first_query + first_row();
    for (int64_t first_key = documents.first_key_tile(first_query); first_key <= first_query;
         first_key += kTile) {
        const int64_t key = first_key + first_column();
        Part scores;
        multiply_heads<n>(queries, first_query, keys, first_key, x, y, scores);
        update_softmax(documents, query, key, scores, state, sums);
        if (s.dropout.probability > 0.0f) drop_out(s, b, head, query, key, scores);
        add_weighted_rows<n>(scores, values, first_key, first_chunk, x, y, sums);
    }

    float factors[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        const float sum = half_warp_sum(state.sum[i]);
        factors[i] = 1.0f / sum;
        if (first_chunk == 0 && first_column() == 0 && query + i < s.sequence) {
            lse[row_statistics(s, b, head) + query + i] = state.maximum[i] + logf(sum);
        }
    }
    store_rows<n>(sums, factors, output_head(s, out, b, head), first_query, first_chunk);
}

}  // namespace

void own_attention_forward(cudaStream_t stream, const AttentionShape& shape, const Tensor& qkv,
                           const Tensor& out, const Tensor& lse) {
    if (takes_tensor_cores(shape, {qkv, out})) {
        tensor_core_attention_forward(stream, shape, qkv, out, lse);
        return;
    }
    with_chunks(shape, qkv.dtype, {qkv.data, out.data},
                [&]<typename T, int n, int chunks, bool apart>() {
                    launch(attention_forward_kernel<T, n, chunks, apart>,
                           tile_grid_of_parts(shape.batch * shape.heads, shape, chunks,
                                              first_query_tile(shape)),
                           stream, shape, document_begins(shape), qkv.as<T>(), out.as<T>(),
                           lse.as<float>());
                });
}

}  // namespace trireme
