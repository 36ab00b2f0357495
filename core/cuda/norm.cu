#include "core/cuda/column_sum.h"
#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/norm_row.h"
#include "core/residual_norm_checks.h"

namespace trireme {

namespace {

// --- forward ---------------------------------------------------------------------------------

// One block a row.
template <typename T, int n, int kept, typename Output>
__global__ void __launch_bounds__(kMostThreads)
    norm_forward_kernel(const T* x, Output output, int64_t cols) {
    output.write(BlockRow<T, n, kept>(x + blockIdx.x * cols, cols / n), cols);
}

// --- backward --------------------------------------------------------------------------------

// Each block takes a range of the rows and sums the parameters' gradients over it. The number of
// blocks, and so the order of the sums, depends on the shape alone.
constexpr int64_t kMultiprocessors = 132;
constexpr int64_t kThreadsOfMultiprocessor = 1024;
constexpr int64_t kLeastRowsOfBlock = 8;

int64_t backward_blocks(int64_t rows, int threads) {
    const int64_t most = kMultiprocessors * (kThreadsOfMultiprocessor / threads);
    return std::min(most, (rows + kLeastRowsOfBlock - 1) / kLeastRowsOfBlock);
}

// What a norm's backward reads for a row, and writes.
template <typename T>
struct BackwardRows {
    const T* dy;
    const T* x;
    const T* weight;
    const float* mean;  // null in the RMS norm
    const float* rstd;
    T* dx;
    int64_t rows;
    int64_t cols;

    __device__ int64_t begin() const { return rows * blockIdx.x / gridDim.x; }
    __device__ int64_t end() const { return rows * (blockIdx.x + 1) / gridDim.x; }
};

// Adds to the sums of g = dy * weight and of g * normalized x, over which the row's gradient has
// the means.
template <int n>
__device__ void add_products(const Floats<n>& dy, const Floats<n>& x, const Floats<n>& weight,
                             float mean, float rstd, Two& sum) {
#pragma unroll
    for (int k = 0; k < n; ++k) {
        const float g = dy[k] * weight[k];
        sum.a += g;
        sum.b += g * ((x[k] - mean) * rstd);
    }
}

// dx += gradient, and the parameters' gradients of this row.
template <bool centered, int n>
__device__ void add_gradients(const Floats<n>& dy, const Floats<n>& x, const Floats<n>& weight,
                              float mean, float rstd, Two means, Floats<n>& dx, Floats<n>& dweight,
                              Floats<n>& dbias) {
    const float mean_g = centered ? means.a : 0.0f;
#pragma unroll
    for (int k = 0; k < n; ++k) {
        const float normalized = (x[k] - mean) * rstd;
        dx[k] += rstd * (dy[k] * weight[k] - mean_g - normalized * means.b);
        dweight[k] += dy[k] * normalized;
        if constexpr (centered) dbias[k] += dy[k];
    }
}

// Rows that have at most one pack for each thread of a block: the sums of the parameters' gradients
// stay in registers, and the next row is on its way while the block works on this one. Block b
// writes row b of partials: sums of dweight, then of dbias.
template <bool centered, typename T, int n>
__global__ void __launch_bounds__(kMostThreads)
    norm_backward_kernel(BackwardRows<T> r, float* partials) {
    const int64_t col = static_cast<int64_t>(threadIdx.x) * n;
    const bool active = col < r.cols;
    const float inverse_cols = 1.0f / static_cast<float>(r.cols);
    Floats<n> dweight{};
    Floats<n> dbias{};
    RawPack<T, n> next_dy, next_x, next_dx;
    const int64_t end = r.end();
    const auto load_next = [&](int64_t row) {
        if (!active || row >= end) return;
        next_dy.load(r.dy + row * r.cols + col);
        next_x.load(r.x + row * r.cols + col);
        next_dx.load(r.dx + row * r.cols + col);
    };
    load_next(r.begin());
    int turn = 0;
    for (int64_t row = r.begin(); row < end; ++row) {
        const RawPack<T, n> dy = next_dy;
        const RawPack<T, n> x = next_x;
        const RawPack<T, n> old_dx = next_dx;
        load_next(row + 1);
        const float mean = centered ? r.mean[row] : 0.0f;
        const float rstd = r.rstd[row];
        Two sum;
        // The weight is in the L1 cache and read again, since registers are short here.
        if (active) {
            add_products<n>(dy.floats(), x.floats(), load_floats<n>(r.weight + col), mean, rstd,
                            sum);
        }
        sum = block_sum(sum, turn);
        turn = 1 - turn;
        if (!active) continue;
        Floats<n> dx = old_dx.floats();
        add_gradients<centered, n>(dy.floats(), x.floats(), load_floats<n>(r.weight + col), mean,
                                   rstd, {sum.a * inverse_cols, sum.b * inverse_cols}, dx, dweight,
                                   dbias);
        store_floats<n>(r.dx + row * r.cols + col, dx);
    }
    if (!active) return;
    float* partial = partials + blockIdx.x * (centered ? 2 : 1) * r.cols + col;
    store_floats<n>(partial, dweight);
    if constexpr (centered) store_floats<n>(partial + r.cols, dbias);
}

// Rows of any length: the sums are kept in the block's row of partials.
template <bool centered, typename T, int n>
__global__ void __launch_bounds__(kMostThreads)
    norm_backward_long_kernel(BackwardRows<T> r, float* partials) {
    const int64_t first = static_cast<int64_t>(threadIdx.x) * n;
    const int64_t stride = static_cast<int64_t>(blockDim.x) * n;
    const float inverse_cols = 1.0f / static_cast<float>(r.cols);
    float* partial = partials + blockIdx.x * (centered ? 2 : 1) * r.cols;
    int turn = 0;
    for (int64_t row = r.begin(); row < r.end(); ++row) {
        const int64_t start = row * r.cols;
        const float mean = centered ? r.mean[row] : 0.0f;
        const float rstd = r.rstd[row];
        Two sum;
        for (int64_t col = first; col < r.cols; col += stride) {
            add_products<n>(load_floats<n>(r.dy + start + col), load_floats<n>(r.x + start + col),
                            load_floats<n>(r.weight + col), mean, rstd, sum);
        }
        sum = block_sum(sum, turn);
        turn = 1 - turn;
        const bool first_row = row == r.begin();
        for (int64_t col = first; col < r.cols; col += stride) {
            Floats<n> dx = load_floats<n>(r.dx + start + col);
            Floats<n> dweight{};
            Floats<n> dbias{};
            if (!first_row) {
                dweight = load_floats<n>(partial + col);
                if constexpr (centered) dbias = load_floats<n>(partial + r.cols + col);
            }
            add_gradients<centered, n>(
                load_floats<n>(r.dy + start + col), load_floats<n>(r.x + start + col),
                load_floats<n>(r.weight + col), mean, rstd,
                {sum.a * inverse_cols, sum.b * inverse_cols}, dx, dweight, dbias);
            store_floats<n>(r.dx + start + col, dx);
            store_floats<n>(partial + col, dweight);
            if constexpr (centered) store_floats<n>(partial + r.cols + col, dbias);
        }
    }
}

template <bool centered>
void norm_backward(cudaStream_t stream, Scratch& scratch, const Tensor& dy, const Tensor& x,
                   const Tensor& weight, const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                   const Tensor& dweight, const Tensor& dbias) {
    const int64_t rows = x.rows();
    const int64_t cols = x.cols();
    if (rows == 0) return;
    const int64_t partial_cols = (centered ? 2 : 1) * cols;
    with_packs(x.dtype, cols, {dy.data, x.data, weight.data, dx.data}, [&]<typename T, int n>() {
        const int threads = row_threads(cols / n, 1);
        const int64_t blocks = backward_blocks(rows, threads);
        auto* partials = scratch.reserve_elements<float>(blocks * partial_cols);
        const BackwardRows<T> r{
            dy.as<T>(),       x.as<T>(),  weight.as<T>(), centered ? mean.as<float>() : nullptr,
            rstd.as<float>(), dx.as<T>(), rows,           cols};
        const bool one_pack = cols / n <= threads;
        launch(one_pack ? norm_backward_kernel<centered, T, n>
                        : norm_backward_long_kernel<centered, T, n>,
               {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads))}, stream,
               r, partials);
        add_columns(stream, partials, blocks, cols, dweight.as<float>(),
                    centered ? dbias.as<float>() : nullptr);
    });
}

}  // namespace

void CudaOps::layer_norm_forward(Stream& stream, const Tensor& x, const Tensor& weight,
                                 const Tensor& bias, float eps, const Tensor& y, const Tensor& mean,
                                 const Tensor& rstd) {
    check_layer_norm(x, weight, bias, y, mean, rstd);
    with_block_rows(x.dtype, x.rows(), x.cols(), {x.data, weight.data, bias.data, y.data},
                    [&]<typename T, int n, int kept>(const Grid& grid) {
                        using Output = LayerNormOutput<T>;
                        launch(norm_forward_kernel<T, n, kept, Output>, grid, handle_of(stream),
                               x.as<T>(),
                               Output{weight.as<T>(), bias.as<T>(), eps, y.as<T>(),
                                      mean.as<float>(), rstd.as<float>()},
                               x.cols());
                    });
}

void CudaOps::layer_norm_backward(Stream& stream, const Tensor& dy, const Tensor& x,
                                  const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                                  const Tensor& dx, const Tensor& dweight, const Tensor& dbias) {
    check_layer_norm_backward(dy, x, weight, mean, rstd, dx, dweight, dbias);
    norm_backward<true>(handle_of(stream), scratch_, dy, x, weight, mean, rstd, dx, dweight, dbias);
}

void CudaOps::rms_norm_forward(Stream& stream, const Tensor& x, const Tensor& weight, float eps,
                               const Tensor& y, const Tensor& rstd) {
    check_rms_norm(x, weight, y, rstd);
    with_block_rows(x.dtype, x.rows(), x.cols(), {x.data, weight.data, y.data},
                    [&]<typename T, int n, int kept>(const Grid& grid) {
                        using Output = RmsNormOutput<T>;
                        launch(norm_forward_kernel<T, n, kept, Output>, grid, handle_of(stream),
                               x.as<T>(), Output{weight.as<T>(), eps, y.as<T>(), rstd.as<float>()},
                               x.cols());
                    });
}

void CudaOps::rms_norm_backward(Stream& stream, const Tensor& dy, const Tensor& x,
                                const Tensor& weight, const Tensor& rstd, const Tensor& dx,
                                const Tensor& dweight) {
    check_rms_norm_backward(dy, x, weight, rstd, dx, dweight);
    norm_backward<false>(handle_of(stream), scratch_, dy, x, weight, Tensor(), rstd, dx, dweight,
                         Tensor());
}

}  // namespace trireme
