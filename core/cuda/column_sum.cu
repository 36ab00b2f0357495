#include "core/cuda/column_sum.h"

#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

constexpr int64_t kLeastPieceRows = 64;
// Blocks that keep a GPU busy: as many as its multiprocessors hold at a time.
constexpr int kBlocksOfMultiprocessor = 8;
constexpr int64_t kEnoughBlocks = 132 * kBlocksOfMultiprocessor;

// Sums of the columns over a piece of the rows: block (s, p) takes the s-th strip of 32 * n columns
// and the p-th piece. The warps of a block take rows in turn; their sums are added in order.
// add: sums (one piece) += the sum. Otherwise row p of sums = the sum.
constexpr int kWarps = kBlockThreads / kWarp;

template <typename T, int n, bool add>
__global__ void __launch_bounds__(kBlockThreads, kBlocksOfMultiprocessor)
    column_sum_kernel(const T* x, int64_t rows, int64_t cols, int64_t piece_rows, float* sums) {
    constexpr int kStrip = kWarp * n;
    alignas(16) __shared__ float of_warp[kWarps][kStrip];
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int64_t strip = static_cast<int64_t>(blockIdx.x) * kStrip;
    const int64_t col = strip + lane * n;
    const int64_t begin = blockIdx.y * piece_rows;
    const int64_t end = begin + piece_rows < rows ? begin + piece_rows : rows;
    Floats<n> sum{};
    if (col < cols) {
#pragma unroll 4
        for (int64_t row = begin + warp; row < end; row += kWarps) {
            const Floats<n> addend = load_floats<n>(x + row * cols + col);
#pragma unroll
            for (int k = 0; k < n; ++k) sum[k] += addend[k];
        }
    }
    store_floats<n>(&of_warp[warp][lane * n], sum);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kStrip && strip + i < cols;
         i += kBlockThreads) {
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) total += of_warp[w][i];
        float* to = sums + blockIdx.y * cols + strip + i;
        *to = add ? *to + total : total;
    }
}

// A block takes 32 columns; its warps take the rows in turn, and their sums are added in order.
constexpr int kSumWarps = 32;

__global__ void __launch_bounds__(kSumWarps* kWarp)
    add_columns_kernel(const float* partials, int64_t rows, int64_t partial_cols, int64_t cols,
                       float* first, float* second) {
    __shared__ float of_warp[kSumWarps][kWarp];
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int64_t col = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
    float sum = 0.0f;
    if (col < partial_cols) {
#pragma unroll 8
        for (int64_t row = warp; row < rows; row += kSumWarps) {
            sum += partials[row * partial_cols + col];
        }
    }
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || col >= partial_cols) return;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kSumWarps; ++i) total += of_warp[i][lane];
    if (col < cols) {
        first[col] += total;
    } else {
        second[col - cols] += total;
    }
}

}  // namespace

void add_columns(cudaStream_t stream, const float* partials, int64_t rows, int64_t cols,
                 float* first, float* second) {
    const int64_t partial_cols = second ? 2 * cols : cols;
    launch(add_columns_kernel,
           {dim3(static_cast<unsigned>(divide_up(partial_cols, kWarp))), dim3(kSumWarps * kWarp)},
           stream, partials, rows, partial_cols, cols, first, second);
}

void CudaOps::bias_backward(Stream& stream, const Tensor& dy, const Tensor& db) {
    check_bias_backward(dy, db);
    const int64_t rows = dy.rows();
    const int64_t cols = dy.cols();
    if (rows == 0) return;
    with_packs(dy.dtype, cols, {dy.data}, [&]<typename T, int n>() {
        const int64_t strips = divide_up(cols, kWarp * n);
        // Few enough that the partial sums are small beside dy, and that all blocks run at once;
        // both depend on the shape alone.
        const int64_t pieces = std::min(divide_up(rows, kLeastPieceRows),
                                        std::max<int64_t>(1, kEnoughBlocks / strips));
        const Grid grid{dim3(static_cast<unsigned>(strips), static_cast<unsigned>(pieces)),
                        dim3(kBlockThreads)};
        if (pieces == 1) {
            launch(column_sum_kernel<T, n, true>, grid, handle_of(stream), dy.as<T>(), rows, cols,
                   rows, db.as<float>());
            return;
        }
        auto* partials = scratch_.reserve_elements<float>(pieces * cols);
        launch(column_sum_kernel<T, n, false>, grid, handle_of(stream), dy.as<T>(), rows, cols,
               divide_up(rows, pieces), partials);
        add_columns(handle_of(stream), partials, pieces, cols, db.as<float>(), nullptr);
    });
}

}  // namespace trireme
