#include "core/cuda/tensor_core_attention.h"
#include "core/cuda/tensor_core_tile.h"

namespace trireme {

using namespace tensor_core_tile;

namespace {

// Of a query's softmax: the first in powers of two.
struct Statistics {
    float lse, delta;
};

// In: the unscaled score and the gradient of the dropped-out probability. Out: the dropped-out
// probability and the gradient of the scaled score, which are 0 for what is not visible, unless its
// gradient is no number.
__device__ void backward_entry(float exponent_scale, bool visible, const Statistics& of_query,
                               float factor, float& score, float& gradient) {
    const float power = approximate_exp2(fmaf(score, exponent_scale, -of_query.lse));
    const float probability = visible ? power : 0.0f;
    score = probability * factor;
    gradient = probability * fmaf(gradient, factor, -of_query.delta);
}

// backward_entry for all of a warp's products. visible(row, group, column): whether the query sees
// the key. statistics(group, column, of_row): those of the queries that the lane's rows have there.
// factors(group, to): of the lane's rows and columns there, for dropout.
template <bool dropped, int n, typename Visible, typename OfQuery, typename Factors>
__device__ void backward_entries(float exponent_scale, const Visible& visible,
                                 const OfQuery& statistics, const Factors& factors,
                                 Products<n>& scores, Products<n>& gradients) {
#pragma unroll
    for (int group = 0; group < n / 16; ++group) {
        float kept[kRows][kColumns];
        if constexpr (dropped) factors(group, kept);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
            Statistics of[kRows];
            statistics(group, c, of);
#pragma unroll
            for (int row = 0; row < kRows; ++row) {
                backward_entry(exponent_scale, visible(row, group, c), of[row],
                               dropped ? kept[row][c] : 1.0f, scores.at(row, group, c),
                               gradients.at(row, group, c));
            }
        }
    }
    // Lanes that masks or dropout sent different ways come together for what warps do as one.
    __syncwarp();
}

// Gradients of a tile of queries, over all keys before them that they see. The values of the next
// tile travel from when this one's have been used, the keys too.
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
    const int tokens = static_cast<int>(s.sequence);
    const int end_key = first_query + kTile < tokens ? first_query + kTile : tokens;
    const Documents<apart, !dropped> documents(s, t.document_begin, b);
    int first_key = documents.first_key_tile(first_query);
    using Tiles = TilesOfHead<AsColumns, depth, n>;
    Tiles keys(packed_head(s, t.qkv, b, s.heads + kv), first_key);
    Tiles values(packed_head(s, t.qkv, b, s.heads + s.kv_heads + kv), first_key);
    copy_rows_async<AsRows>(packed_head(s, t.qkv, b, head), first_query, of_queries);
    copy_rows_async<AsRows>(output_head(s, t.dout, b, head), first_query, of_douts);
    values.ask(of_values);
    mark_copies();
    keys.ask(of_keys);
    mark_copies();

    const float exponent_scale = s.scale * kLog2E;
    const int query = first_query + first_row();
    Statistics of_row[kRows];
    int first_seen[kRows];
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
        const int64_t at = row_statistics(s, b, head) + query + row;
        const bool within = query + row < tokens;
        of_row[row] = {within ? t.lse[at] * kLog2E : 0.0f, within ? t.delta[at] : 0.0f};
        first_seen[row] = documents.first_key(query + row);
    }
    const auto statistics = [&](int, int, Statistics(&to)[kRows]) {
#pragma unroll
        for (int row = 0; row < kRows; ++row) to[row] = of_row[row];
    };
    // All of the tile see the keys from here on that do not stand behind them.
    const int first_common = documents.first_key(first_query + kTile - 1);
    Products<depth> sums;
    for (; first_key < end_key; first_key += n) {
        const bool has_next = first_key + n < end_key;
        Products<n> scores, gradients;
        wait_for_copies<1>();
        __syncthreads();
        multiply(of_douts, of_values, gradients);
        wait_for_copies<0>();
        __syncthreads();  // the values have been used
        if (has_next) values.ask(of_values);
        mark_copies();
        multiply(of_queries, of_keys, scores);

        const int key = first_key + first_column();
        const auto factors = [&](int group, float(&to)[kRows][kColumns]) {
#pragma unroll
            for (int row = 0; row < kRows; ++row) {
                dropout_factors(s, b, head, query + row, key + 16 * group, to[row]);
            }
        };
        if (first_key + n > first_query || first_key < first_common) {
            const auto visible = [&](int row, int group, int column) {
                const int at = key + 16 * group + column;
                return at <= query + row && documents.sees(first_seen[row], at);
            };
            backward_entries<dropped>(exponent_scale, visible, statistics, factors, scores,
                                      gradients);
        } else {
            const auto visible = [](int, int, int) { return true; };
            backward_entries<dropped>(exponent_scale, visible, statistics, factors, scores,
                                      gradients);
        }
        add_weighted(gradients, of_keys, sums);
        __syncthreads();  // the keys have been used
        if (has_next) keys.ask(of_keys);
        mark_copies();
    }
    const float scales[kRows] = {s.scale, s.scale};
    store(sums, scales, of_queries, packed_head(s, t.dqkv, b, head), first_query);
}

// Statistics of a tile of queries, a few of them in each lane of a warp. Zeros beyond the sequence,
// as all else of such queries, which then add nothing.
struct LaneStatistics {
    Statistics of[kTile / kWarp];

    template <int n>
    __device__ void load(const BackwardTensors<bf16>& t, int64_t at, int queries_left) {
#pragma unroll
        for (int i = 0; i < n / kWarp; ++i) {
            const int query = i * kWarp + lane_of_warp();
            const bool within = query < queries_left;
            of[i] = {within ? t.lse[at + query] * kLog2E : 0.0f,
                     within ? t.delta[at + query] : 0.0f};
        }
    }
    // Of the lane's column; the warp's lanes ask together.
    __device__ Statistics of_column(int group, int column) const {
        const Statistics& from = of[16 * group / kWarp];
        const int lane = 16 * group % kWarp + first_column() + column;
        return {__shfl_sync(0xffffffffu, from.lse, lane),
                __shfl_sync(0xffffffffu, from.delta, lane)};
    }
};

// Gradients of a tile of keys and values, over all queries from them on that see them, of all query
// heads that share them. Products have keys as rows here. What comes next travels from when its
// place is free, also from head to head.
template <int depth, bool apart, bool dropped>
__global__ void __launch_bounds__(kThreads, 2)
    tensor_core_attention_dkeys_kernel(const AttentionShape s, const BackwardTensors<bf16> t) {
    constexpr int n = kColumnsOfTile<depth>;
    __shared__ Matrix<depth, kTile> of_keys, of_values;
    __shared__ Matrix<depth, n> of_queries, of_douts;
    const int64_t b = blockIdx.x / s.kv_heads;
    const int kv = static_cast<int>(blockIdx.x) % s.kv_heads;
    const int group_size = s.heads / s.kv_heads;
    const int first_head = kv * group_size, end_head = first_head + group_size;
    const int first_key = static_cast<int>(blockIdx.y) * kTile;
    const Documents<apart, !dropped> documents(s, t.document_begin, b);
    // Queries from here on see none of the keys.
    const int end_query = documents.first_query_without(first_key, first_key + kTile);
    using Tiles = TilesOfHead<AsColumns, depth, n>;
    Tiles queries(packed_head(s, t.qkv, b, first_head), first_key);
    Tiles douts(output_head(s, t.dout, b, first_head), first_key);
    copy_rows_async<AsRows>(packed_head(s, t.qkv, b, s.heads + kv), first_key, of_keys);
    copy_rows_async<AsRows>(packed_head(s, t.qkv, b, s.heads + s.kv_heads + kv), first_key,
                            of_values);
    douts.ask(of_douts);
    mark_copies();
    queries.ask(of_queries);
    mark_copies();

    const float exponent_scale = s.scale * kLog2E;
    const int tokens = static_cast<int>(s.sequence);
    const int key = first_key + first_row();
    Products<depth> dkeys, dvalues;
    int head = first_head, first_query = first_key;
    for (bool has_next = true; has_next;) {
        LaneStatistics of_tile;
        of_tile.load<n>(t, row_statistics(s, b, head) + first_query, tokens - first_query);
        const bool all_visible = first_query >= first_key + kTile - 1 &&
                                 documents.first_key(first_query + n - 1) <= first_key;
        Products<n> scores, gradients;
        wait_for_copies<1>();
        __syncthreads();
        multiply(of_values, of_douts, gradients);
        wait_for_copies<0>();
        __syncthreads();
        multiply(of_keys, of_queries, scores);

        const int query = first_query + first_column();
        const auto statistics = [&](int group, int column, Statistics(&to)[kRows]) {
            const Statistics of_query = of_tile.of_column(group, column);
#pragma unroll
            for (int row = 0; row < kRows; ++row) to[row] = of_query;
        };
        const auto factors = [&](int group, float(&to)[kRows][kColumns]) {
#pragma unroll
            for (int c = 0; c < kColumns; ++c) {
                float of_keys_of_query[kRows];
                dropout_factors(s, b, head, query + 16 * group + c, key, of_keys_of_query);
#pragma unroll
                for (int row = 0; row < kRows; ++row) to[row][c] = of_keys_of_query[row];
            }
        };
        if (all_visible) {
            const auto visible = [](int, int, int) { return true; };
            backward_entries<dropped>(exponent_scale, visible, statistics, factors, scores,
                                      gradients);
        } else {
            const auto visible = [&](int row, int group, int column) {
                const int at = query + 16 * group + column;
                const int first_seen = documents.first_key(at);
                return key + row <= at && documents.sees(first_seen, key + row);
            };
            backward_entries<dropped>(exponent_scale, visible, statistics, factors, scores,
                                      gradients);
        }

        first_query += n;
        if (first_query >= end_query) {
            first_query = first_key;
            has_next = ++head < end_head;
            if (has_next) {
                queries = Tiles(packed_head(s, t.qkv, b, head), first_key);
                douts = Tiles(output_head(s, t.dout, b, head), first_key);
            }
        }
        add_weighted(scores, of_douts, dvalues);
        __syncthreads();  // the gradients of outputs have been used
        if (has_next) douts.ask(of_douts);
        mark_copies();
        add_weighted(gradients, of_queries, dkeys);
        __syncthreads();  // the queries have been used
        if (has_next) queries.ask(of_queries);
        mark_copies();
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
