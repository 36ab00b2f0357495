#pragma once

#include "core/cuda/attention_heads.h"

// What the attention kernels without tensor cores share. For .cu files only.
//
// A block of threads works on a tile of 64 queries and 64 keys at a time: rows of one against rows
// of the other give 64 x 64 products, of which each thread holds 8 x 4 in registers, and these
// weight rows of a third matrix. Both operands pass through two tiles of shared memory, as f32, 64
// columns at a time, so that shared memory does not limit the head dimension.
namespace trireme::attention_tile {

using namespace attention_heads;

inline constexpr int kRowGroups = 8;      // threads along the rows of products
inline constexpr int kColumnGroups = 16;  // and along their columns: half a warp
inline constexpr int kRows = kTile / kRowGroups;
inline constexpr int kColumns = kTile / kColumnGroups;
// The longest piece of a row that one block sums: two chunks of 64 columns. What is longer goes to
// several blocks, which make the same products again.
inline constexpr int kMostChunks = 2;

// Each thread's part of a 64 x 64 tile: rows from first_row(), columns from first_column().
using Part = float[kRows][kColumns];
__device__ inline int first_row() {
    return static_cast<int>(threadIdx.x) / kColumnGroups * kRows;
}
__device__ inline int first_column() {
    return static_cast<int>(threadIdx.x) % kColumnGroups * kColumns;
}

// 4 floats of padding: neighbouring threads then read 16 bytes of neighbouring rows from different
// banks.
struct alignas(16) Tile {
    float at[kTile][kTile + 4];
};

// Where a tile holds row r of the matrix: row i of thread group g at i * groups + g, so that
// threads side by side read rows side by side although each has neighbouring rows of products.
struct AsRows {
    static __device__ int position(int r) { return r % kRows * kRowGroups + r / kRows; }
};
struct AsColumns {
    static __device__ int position(int r) { return r % kColumns * kColumnGroups + r / kColumns; }
};

// 64 columns of 64 rows, zeros beyond the head's end. n: elements an access.
template <typename Layout, int n, typename T>
__device__ inline void load_tile(const Head<T>& head, int64_t token, int column, Tile& tile) {
    constexpr int kPacks = kTile / n;
#pragma unroll(n == 8 ? 2 : 4)
    for (int pass = 0; pass < kTile * kPacks / kThreads; ++pass) {
        const int i = pass * kThreads + static_cast<int>(threadIdx.x);
        const int r = i / kPacks;
        const int c = i % kPacks * n;
        Floats<n> values{};
        if (token + r < head.tokens && column + c < head.depth) {
            values = load_floats<n>(head.first + (token + r) * head.stride + column + c);
        }
        float* to = &tile.at[Layout::position(r)][c];
        constexpr int kWidth = n < 4 ? n : 4;
#pragma unroll
        for (int k = 0; k < n; k += kWidth) {
            Floats<kWidth> four;
#pragma unroll
            for (int u = 0; u < kWidth; ++u) four[u] = head.factor * values[k + u];
            store_floats<kWidth>(to + k, four);
        }
    }
}

// products += rows times columns over the first `depth` elements of each.
__device__ inline void add_products(const Tile& rows, const Tile& columns, int depth,
                                    Part& products) {
    const int row = first_row() / kRows;
    const int column = first_column() / kColumns;
#pragma unroll 1
    for (int d = 0; d < depth; d += 4) {
        Floats<4> b[kColumns];
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
            b[j] = load_floats<4>(&columns.at[j * kColumnGroups + column][d]);
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
            const Floats<4> a = load_floats<4>(&rows.at[i * kRowGroups + row][d]);
#pragma unroll
            for (int j = 0; j < kColumns; ++j) {
#pragma unroll
                for (int u = 0; u < 4; ++u) {
                    products[i][j] = fmaf(a[u], b[j][u], products[i][j]);
                }
            }
        }
    }
}

// products = 64 rows of a from token a_token times 64 rows of b from b_token.
template <int n, typename A, typename B>
__device__ inline void multiply_heads(const Head<A>& a, int64_t a_token, const Head<B>& b,
                                      int64_t b_token, Tile& x, Tile& y, Part& products) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) products[i][j] = 0.0f;
    }
    for (int column = 0; column < a.depth; column += kTile) {
        __syncthreads();  // what the tiles held has been used
        load_tile<AsRows, n>(a, a_token, column, x);
        load_tile<AsColumns, n>(b, b_token, column, y);
        __syncthreads();
        const int left = a.depth - column;
        add_products(x, y, left < kTile ? left : kTile, products);
    }
}

// sums[c] += weights (64 x 64) times 64 rows of b from b_token, in the chunk c of 64 columns that
// begin at first_chunk.
template <int n, int chunks, typename B>
__device__ inline void add_weighted_rows(const Part& weights, const Head<B>& b, int64_t b_token,
                                         int first_chunk, Tile& x, Tile& y, Part (&sums)[chunks]) {
    const int row = first_row() / kRows;
    const int column = first_column();
    __syncthreads();  // what the tiles held has been used
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        store_floats<4>(&x.at[i * kRowGroups + row][column],
                        {weights[i][0], weights[i][1], weights[i][2], weights[i][3]});
    }
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
        if (c > 0) __syncthreads();
        load_tile<AsColumns, n>(b, b_token, first_chunk + c * kTile, y);
        __syncthreads();
#pragma unroll 1
        for (int k = 0; k < kTile / 4; ++k) {
            Floats<4> four[4];  // rows 4k to 4k + 3
#pragma unroll
            for (int v = 0; v < 4; ++v) {
                four[v] = load_floats<4>(&y.at[v * kColumnGroups + k][column]);
            }
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
                const Floats<4> a = load_floats<4>(&x.at[i * kRowGroups + row][4 * k]);
#pragma unroll
                for (int v = 0; v < 4; ++v) {
#pragma unroll
                    for (int u = 0; u < kColumns; ++u) {
                        sums[c][i][u] = fmaf(a[v], four[v][u], sums[c][i][u]);
                    }
                }
            }
        }
    }
}

// Sums of add_weighted_rows to the rows of `to` from `token`, row i times factors[i].
template <int n, int chunks, typename T>
__device__ inline void store_rows(const Part (&sums)[chunks], const float (&factors)[kRows],
                                  const Head<T>& to, int64_t token, int first_chunk) {
    constexpr int kWidth = n < 4 ? n : 4;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        const int64_t row = token + first_row() + i;
        if (row >= to.tokens) continue;
#pragma unroll
        for (int c = 0; c < chunks; ++c) {
            const int column = first_chunk + c * kTile + first_column();
#pragma unroll
            for (int k = 0; k < kColumns; k += kWidth) {
                if (column + k >= to.depth) continue;
                Floats<kWidth> values;
#pragma unroll
                for (int u = 0; u < kWidth; ++u) values[u] = factors[i] * sums[c][i][k + u];
                store_floats<kWidth>(to.first + row * to.stride + column + k, values);
            }
        }
    }
}

// --- host --------------------------------------------------------------------------------------

// The same blocks for each part of the head dimension.
inline Grid tile_grid_of_parts(int64_t units, const AttentionShape& s, int chunks,
                               int64_t left_out = 0) {
    Grid grid = tile_grid(units, s, left_out);
    grid.blocks.z = static_cast<unsigned>(divide_up(s.head_dim, chunks * kTile));
    return grid;
}

// Calls body.template operator()<T, n, chunks, apart>() with the element type, the elements an
// access, the chunks of the head dimension that a block sums and whether documents are kept apart.
template <typename Body>
void with_chunks(const AttentionShape& s, DType type, std::initializer_list<const void*> addresses,
                 const Body& body) {
    with_packs(type, s.head_dim, addresses, [&]<typename T, int n>() {
        const auto with_documents = [&]<int chunks>() {
            if (s.document_begin) {
                body.template operator()<T, n, chunks, true>();
            } else {
                body.template operator()<T, n, chunks, false>();
            }
        };
        if (s.head_dim <= kTile) {
            with_documents.template operator()<1>();
        } else {
            with_documents.template operator()<kMostChunks>();
        }
    });
}

}  // namespace trireme::attention_tile
