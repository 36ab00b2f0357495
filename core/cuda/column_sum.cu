#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"

namespace trireme {

namespace {

constexpr int64_t kLeastPieceRows = 64;
// Blocks that keep a GPU busy: several for each of its multiprocessors.
constexpr int64_t kEnoughBlocks = 132 * 8;

// Sums of the columns over a piece of the rows: block (s, p) takes the s-th strip of 32 * n columns
// and the p-th piece. The warps of a block take rows in turn; their sums are added in order.
// add: sums (one piece) += the sum. Otherwise row p of sums = the sum.
template <typename T, int n, int warps, bool add>
__global__ void __launch_bounds__(warps* kWarp)
    column_sum_kernel(const T* x, int64_t rows, int64_t cols, int64_t piece_rows, float* sums) {
    constexpr int kStrip = kWarp * n;
    alignas(16) __shared__ float of_warp[warps][kStrip];
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int64_t strip = static_cast<int64_t>(blockIdx.x) * kStrip;
    const int64_t col = strip + lane * n;
    const int64_t begin = blockIdx.y * piece_rows;
    const int64_t end = begin + piece_rows < rows ? begin + piece_rows : rows;
    Floats<n> sum{};
    if (col < cols) {
#pragma unroll 4
        for (int64_t row = begin + warp; row < end; row += warps) {
            const Floats<n> addend = load_floats<n>(x + row * cols + col);
#pragma unroll
            for (int k = 0; k < n; ++k) sum[k] += addend[k];
        }
    }
    store_floats<n>(&of_warp[warp][lane * n], sum);
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kStrip && strip + i < cols;
         i += warps * kWarp) {
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < warps; ++w) total += of_warp[w][i];
        float* to = sums + blockIdx.y * cols + strip + i;
        *to = add ? *to + total : total;
    }
}

template <typename T, int n, int warps, bool add>
void sum_pieces(cudaStream_t stream, const T* x, int64_t rows, int64_t cols, int64_t pieces,
                float* sums) {
    const dim3 blocks(static_cast<unsigned>(divide_up(cols, kWarp * n)),
                      static_cast<unsigned>(pieces));
    launch(column_sum_kernel<T, n, warps, add>, {blocks, dim3(warps * kWarp)}, stream, x, rows,
           cols, divide_up(rows, pieces), sums);
}

}  // namespace

void CudaOps::bias_backward(Stream& stream, const Tensor& dy, const Tensor& db) {
    TRIREME_CHECK(db.elements() == dy.cols() && db.dtype == DType::f32,
                  "bias gradient [M] of f32 for dy [N, M]");
    const int64_t rows = dy.rows();
    const int64_t cols = dy.cols();
    if (rows == 0) return;
    with_packs(dy.dtype, cols, {dy.data}, [&]<typename T, int n>() {
        const int64_t strips = divide_up(cols, kWarp * n);
        // Few enough that the partial sums are small beside dy; both depend on the shape alone.
        const int64_t pieces =
            std::min(divide_up(rows, kLeastPieceRows), divide_up(kEnoughBlocks, strips));
        if (pieces == 1) {
            sum_pieces<T, n, 8, true>(handle_of(stream), dy.as<T>(), rows, cols, 1, db.as<float>());
            return;
        }
        auto* partials = scratch_.reserve_elements<float>(pieces * cols);
        sum_pieces<T, n, 8, false>(handle_of(stream), dy.as<T>(), rows, cols, pieces, partials);
        sum_pieces<float, 1, 32, true>(handle_of(stream), partials, pieces, cols, 1,
                                       db.as<float>());
    });
}

}  // namespace trireme
