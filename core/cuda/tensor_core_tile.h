#pragma once

#include "core/cuda/attention_heads.h"
#include "core/cuda/tensor_core.h"

// What the attention kernels with tensor cores share. For .cu files only.
//
// A block of four warps works on 64 rows (queries, or keys in the gradient of keys) against tiles
// of columns (the other of the two); each warp has 16 of the rows. Matrices lie in shared memory in
// bf16, their places exchanged within each 16 rows so that what a lane holds of the products are
// neighbours: two rows, and in each 16 columns four. A dropout mask has four elements in one Philox
// block.
namespace trireme::tensor_core_tile {

using namespace attention_heads;

inline constexpr int kWarpRows = 16;
inline constexpr float kLog2E = 1.44269504f;

// Heads are filled up with zeros to one of these.
inline constexpr int kDepths[] = {64, 128};

// Columns a tile: what leaves room for both of the backward's matrices in 48 KB, of rows and of
// columns.
template <int depth>
inline constexpr int kColumnsOfTile = depth > 64 ? 32 : 64;

// Where a matrix of rows (the products' rows) or of columns holds its row r.
struct AsRows {
    static __device__ int place(int r) { return r / 16 * 16 + r % 2 * 8 + r % 16 / 2; }
};
struct AsColumns {
    static __device__ int place(int r) {
        return r / 16 * 16 + r % 4 / 2 * 8 + r % 16 / 4 * 2 + r % 2;
    }
};

// The calling lane's first row among the block's, and its first column in each 16: it has kRows and
// kColumns neighbours from there on.
inline constexpr int kRows = 2;
inline constexpr int kColumns = 4;
__device__ inline int lane_of_warp() {
    return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ inline int first_row_of_warp() {
    return static_cast<int>(threadIdx.x) / kWarp * kWarpRows;
}
__device__ inline int first_row() {
    return first_row_of_warp() + lane_of_warp() / 4 * kRows;
}
__device__ inline int first_column() {
    return lane_of_warp() % 4 * kColumns;
}

// A warp's 16 rows by `n` columns of products.
template <int n>
struct Products {
    WarpSums part[n / 8];

    // Row 0 or 1 of the lane's, column 0 to 3 of its four in the 16 columns of `group`.
    __device__ float& at(int row, int group, int column) {
        return part[2 * group + column / 2].of[2 * row + column % 2];
    }
};

// Where a lane finds its rows of a matrix, one in each 16 places, and in each of these rows one of
// each two units. Few registers hold an address of each: the pairs differ by an exclusive or with
// a constant, the rows by a constant that a load takes with it.
template <int depth>
struct LaneUnits {
    SharedAddress first;

    __device__ SharedAddress at(int pair, int group = 0) const {
        constexpr int kUnitBytes = static_cast<int>(sizeof(EightBf16));
        return (first ^ static_cast<SharedAddress>(pair * 2 * kUnitBytes)) +
               static_cast<SharedAddress>(group * 16 * depth / 8 * kUnitBytes);
    }
};

// Rows of a head in shared memory, in units of 8 elements whose order differs from row to row:
// eight rows' units that are read together then lie in different banks. Unit i lies where i ^ a
// number of the row says. Aligned to a row's bytes, for LaneUnits.
template <int depth, int n>
struct alignas(2 * depth) Matrix {
    static constexpr int kUnits = depth / 8;  // of a row
    EightBf16 units[n * kUnits];

    __device__ EightBf16* unit(int place, int index) {
        return units + place * kUnits + (index ^ place % 8);
    }
    // Of the lane whose first row lies at `place`, and which reads the second of each pair or not.
    __device__ LaneUnits<depth> of_lane(int place, int second) {
        return {shared_address(unit(place, second))};
    }
};

// Asks for a head's rows from a token on, tile by tile of `n`; zeros beyond the sequence and the
// head's end.
template <typename Layout, int depth, int n>
class TilesOfHead {
public:
    __device__ TilesOfHead(const Head<const bf16>& head, int token)
        : from_(head.first + (token + own_row()) * head.stride + own_unit() * 8),
          stride_(static_cast<int>(head.stride)),
          rows_left_(static_cast<int>(head.tokens) - token - own_row()),
          depth_left_(head.depth - own_unit() * 8) {}

    // The next tile.
    __device__ void ask(Matrix<depth, n>& to) {
        EightBf16* const first = to.unit(Layout::place(own_row()), own_unit());
#pragma unroll
        for (int part = 0; part < depth; part += 8 * kUnits) {
#pragma unroll
            for (int pass = 0; pass < n; pass += kPassRows) {
                copy_async(first + pass * (depth / 8) + part / 8,
                           reinterpret_cast<const EightBf16*>(from_ + pass * stride_ + part),
                           part >= depth_left_ || pass >= rows_left_);
            }
        }
        from_ += n * stride_;
        rows_left_ -= n;
    }

private:
    // A pass is 16 rows and 128 bytes of each, so that a thread's places differ from pass to pass
    // by constants.
    static constexpr int kUnits = 8;
    static constexpr int kPassRows = kThreads / kUnits;
    static __device__ int own_row() {
        return static_cast<int>(threadIdx.x) / kUnits;
    }
    static __device__ int own_unit() {
        return static_cast<int>(threadIdx.x) % kUnits;
    }

    const bf16* from_;
    int stride_;
    int rows_left_;
    int depth_left_;
};

template <typename Layout, int depth, int n>
__device__ inline void copy_rows_async(const Head<const bf16>& head, int token,
                                       Matrix<depth, n>& to) {
    TilesOfHead<Layout, depth, n>(head, token).ask(to);
}

// products = the warp's rows times the columns.
template <int depth, int n>
__device__ inline void multiply(Matrix<depth, kTile>& rows, Matrix<depth, n>& columns,
                                Products<n>& products) {
    const int lane = lane_of_warp();
    const auto lefts = rows.of_lane(first_row_of_warp() + lane % 16, lane / 16);
    const auto rights = columns.of_lane(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    products = {};
#pragma unroll
    for (int k = 0; k < depth / 16; ++k) {
        WarpLeft left;
        load_matrices<false>(left.of, lefts.at(k));
#pragma unroll
        for (int group = 0; group < n / 16; ++group) {
            uint32_t right[4];
            load_matrices<false>(right, rights.at(k, group));
            multiply_add(products.part[2 * group], left, right[0], right[1]);
            multiply_add(products.part[2 * group + 1], left, right[2], right[3]);
        }
    }
}

// sums (16 x depth) += weights, rounded to bf16, times the rows that belong to their columns.
template <int depth, int n>
__device__ inline void add_weighted(const Products<n>& weights, Matrix<depth, n>& columns,
                                    Products<depth>& sums) {
    const int lane = lane_of_warp();
    const auto rights = columns.of_lane(lane % 16, lane / 16);
#pragma unroll
    for (int group = 0; group < n / 16; ++group) {
        const WarpSums& first = weights.part[2 * group];
        const WarpSums& second = weights.part[2 * group + 1];
        const WarpLeft left{{two_bf16(first.of[0], first.of[1]), two_bf16(first.of[2], first.of[3]),
                             two_bf16(second.of[0], second.of[1]),
                             two_bf16(second.of[2], second.of[3])}};
#pragma unroll
        for (int k = 0; k < depth / 16; ++k) {
            uint32_t right[4];
            load_matrices<true>(right, rights.at(k, group));
            multiply_add(sums.part[2 * k], left, right[0], right[1]);
            multiply_add(sums.part[2 * k + 1], left, right[2], right[3]);
        }
    }
}

// The warp's sums times a factor for each of the lane's rows to the rows of `to` from `token`, by
// way of the warp's own rows of `room`, which nobody reads any more.
template <int depth, typename T>
__device__ inline void store(const Products<depth>& sums, const float (&factors)[kRows],
                             Matrix<depth, kTile>& room, const Head<T>& to, int token) {
    constexpr int kUnits = depth / 8;
    const int lane = lane_of_warp();
    const int rows_left = static_cast<int>(to.tokens) - token;
#pragma unroll
    for (int part = 0; part < depth / 8; ++part) {
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
            const float* of = sums.part[part].of + 2 * row;
            room.unit(AsRows::place(first_row() + row), part)->two[lane % 4] =
                two_bf16(factors[row] * of[0], factors[row] * of[1]);
        }
    }
    __syncwarp();
#pragma unroll
    for (int pass = 0; pass < kWarpRows * kUnits / kWarp; ++pass) {
        const int i = pass * kWarp + lane;
        const int row = first_row_of_warp() + i / kUnits;
        const int unit = i % kUnits;
        if (row >= rows_left || unit * 8 >= to.depth) continue;
        *reinterpret_cast<EightBf16*>(to.first + (token + row) * to.stride + unit * 8) =
            *room.unit(AsRows::place(row), unit);
    }
}

// --- host --------------------------------------------------------------------------------------

// Calls body.template operator()<depth, apart, dropped>() with the depth that heads are filled up
// to, whether documents may be kept apart, and whether there is dropout, which costs registers.
template <typename Body>
void with_depth(const AttentionShape& s, const Body& body) {
    const auto of_depth = [&]<int depth>() {
        if (s.dropout.probability > 0.0f) {
            body.template operator()<depth, true, true>();
        } else if (s.document_begin) {
            body.template operator()<depth, true, false>();
        } else {
            body.template operator()<depth, false, false>();
        }
    };
    if (s.head_dim <= kDepths[0]) {
        of_depth.template operator()<kDepths[0]>();
    } else {
        of_depth.template operator()<kDepths[1]>();
    }
}

}  // namespace trireme::tensor_core_tile
