#include "core/cuda/tensor_core_attention.h"

#include <algorithm>
#include <cfloat>

#include "core/cuda/tensor_core_tile.h"

namespace trireme {

using namespace tensor_core_tile;

namespace {

// A row of products is shared by four lanes.
__device__ float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
    return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ float row_sum(float value) {
    value += __shfl_xor_sync(0xffffffffu, value, 1);
    return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

// The running maximum and sum of this lane's rows, the first of unscaled scores. The sum is of this
// lane's columns only.
struct RowState {
    float maximum[kRows];
    float sum[kRows];
};

// In: unscaled scores. Out: exp of the scaled scores less their row's maximum, 0 where a query does
// not see the key. Sums so far are brought down to the new maximum. A score that is no number is
// no maximum (fmaxf) and stays no number.
// sees(row, group, column): whether it does.
template <int depth, typename Sees>
__device__ void update_softmax(float exponent_scale, const Sees& sees, Products<kTile>& scores,
                               RowState& state, Products<depth>& sums) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
        float top = state.maximum[row];
#pragma unroll
        for (int i = 0; i < kTile / 4; ++i) {
            if (sees(row, i / 4, i % 4)) top = fmaxf(scores.at(row, i / 4, i % 4), top);
        }
        top = row_max(top);
        const float shrink = approximate_exp2((state.maximum[row] - top) * exponent_scale);
        const float least = top * exponent_scale;
        state.maximum[row] = top;
        state.sum[row] *= shrink;
#pragma unroll
        for (int i = 0; i < kTile / 4; ++i) {
            float& score = scores.at(row, i / 4, i % 4);
            const float power = approximate_exp2(fmaf(score, exponent_scale, -least));
            score = sees(row, i / 4, i % 4) ? power : 0.0f;
            state.sum[row] += score;
        }
#pragma unroll
        for (int part = 0; part < depth / 8; ++part) {
            sums.part[part].of[2 * row] *= shrink;
            sums.part[part].of[2 * row + 1] *= shrink;
        }
    }
}

// query, key: of the lane's first row and column.
__device__ void drop_out(const AttentionShape& s, int64_t b, int head, int query, int key,
                         Products<kTile>& weights) {
#pragma unroll
    for (int group = 0; group < kTile / 16; ++group) {
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
            float factors[kColumns];
            dropout_factors(s, b, head, query + row, key + 16 * group, factors);
#pragma unroll
            for (int c = 0; c < kColumns; ++c) weights.at(row, group, c) *= factors[c];
        }
    }
}

// A tile of queries against all keys before them that they see. The values of a tile travel while
// its scores are made, the keys of the next during all the rest.
template <int depth, bool apart, bool dropped>
__global__ void __launch_bounds__(kThreads, depth > 64 ? 3 : 4)
    tensor_core_attention_kernel(const AttentionShape s, const int32_t* document_begin,
                                 const bf16* qkv, bf16* out, float* lse) {
    __shared__ Matrix<depth, kTile> of_queries, of_keys, of_values;
    const int64_t b = blockIdx.x / s.heads;
    const int head = static_cast<int>(blockIdx.x) % s.heads;
    const int kv = head / (s.heads / s.kv_heads);
    // The last queries see the most keys: they go first.
    const int first_query =
        (first_query_tile(s) + static_cast<int>(gridDim.y - 1 - blockIdx.y)) * kTile;
    const Documents<apart, !dropped> documents(s, document_begin, b);
    int first_key = documents.first_key_tile(first_query);
    using Tiles = TilesOfHead<AsColumns, depth, kTile>;
    Tiles keys(packed_head(s, qkv, b, s.heads + kv), first_key);
    Tiles values(packed_head(s, qkv, b, s.heads + s.kv_heads + kv), first_key);
    copy_rows_async<AsRows>(packed_head(s, qkv, b, head), first_query, of_queries);
    keys.ask(of_keys);
    mark_copies();

    const float exponent_scale = s.scale * kLog2E;
    const int query = first_query + first_row();
    RowState state;
    int first_seen[kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
        // A number: no difference of infinities where a row sees none of its first tile's keys.
        state.maximum[row] = -FLT_MAX;
        state.sum[row] = 0.0f;
        first_seen[row] = documents.first_key(query + row);
    }
    // All of the tile see the keys from here on that do not stand behind them.
    const int first_common = documents.first_key(first_query + kTile - 1);
    Products<depth> sums;
    for (; first_key <= first_query; first_key += kTile) {
        wait_for_copies<0>();
        __syncthreads();  // the keys are there, the values before have been used
        values.ask(of_values);
        mark_copies();
        Products<kTile> scores;
        multiply(of_queries, of_keys, scores);
        wait_for_copies<0>();
        __syncthreads();  // the values are there, the keys have been used
        if (first_key < first_query) keys.ask(of_keys);
        mark_copies();

        const int key = first_key + first_column();
        if (first_key == first_query || first_key < first_common) {
            const auto sees = [&](int row, int group, int column) {
                const int at = key + 16 * group + column;
                return at <= query + row && documents.sees(first_seen[row], at);
            };
            update_softmax(exponent_scale, sees, scores, state, sums);
        } else {
            const auto sees = [](int, int, int) { return true; };
            update_softmax(exponent_scale, sees, scores, state, sums);
        }
        if constexpr (dropped) drop_out(s, b, head, query, key, scores);
        __syncwarp();  // lanes that masks or dropout sent different ways
        add_weighted(scores, of_values, sums);
    }

    float factors[kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
        const float sum = row_sum(state.sum[row]);
        factors[row] = 1.0f / sum;
        if (first_column() == 0 && query + row < s.sequence) {
            lse[row_statistics(s, b, head) + query + row] =
                state.maximum[row] * s.scale + logf(sum);
        }
    }
    store(sums, factors, of_queries, output_head(s, out, b, head), first_query);
}

}  // namespace

bool are_bf16_packs(std::initializer_list<Tensor> activations) {
    return std::all_of(activations.begin(), activations.end(), [](const Tensor& tensor) {
        return tensor.dtype == DType::bf16 && reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0;
    });
}

bool takes_tensor_cores(const AttentionShape& shape, std::initializer_list<Tensor> activations) {
    // The scale goes into an exponent only after the maximum has been taken.
    if (shape.head_dim % 8 != 0 || shape.head_dim > kDepths[1] || shape.scale <= 0.0f) return false;
    return are_bf16_packs(activations);
}

void tensor_core_attention_forward(cudaStream_t stream, const AttentionShape& shape,
                                   const Tensor& qkv, const Tensor& out, const Tensor& lse) {
    with_depth(shape, [&]<int depth, bool apart, bool dropped>() {
        launch(tensor_core_attention_kernel<depth, apart, dropped>,
               tile_grid(shape.batch * shape.heads, shape, first_query_tile(shape)), stream, shape,
               document_begins(shape), qkv.as<bf16>(), out.as<bf16>(), lse.as<float>());
    });
}

}  // namespace trireme
