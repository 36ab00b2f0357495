#include <bit>

#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"

namespace trireme {

namespace {

constexpr int kMostThreads = 1024;

struct Two {
    float a = 0.0f;
    float b = 0.0f;
};

// Sums over the threads of a block, in all of them. Calls that follow each other alternate `turn`
// between 0 and 1: then one barrier each is enough.
__device__ inline Two block_sum(Two value, int turn) {
    __shared__ Two of_warp[2][kMostThreads / kWarp];
    value = {warp_reduce<Sum>(value.a), warp_reduce<Sum>(value.b)};
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    if (warps == 1) return value;
    const int thread = static_cast<int>(threadIdx.x);
    if (thread % kWarp == 0) of_warp[turn][thread / kWarp] = value;
    __syncthreads();
    Two sum = of_warp[turn][0];
    for (int i = 1; i < warps; ++i) {
        sum.a += of_warp[turn][i].a;
        sum.b += of_warp[turn][i].b;
    }
    return sum;
}

__device__ inline float reciprocal_root(float value) {
    return 1.0f / sqrtf(value);
}

// Threads of a block that takes a row of `packs`, `of_thread` of them or fewer a thread.
int row_threads(int64_t packs, int64_t of_thread) {
    const int64_t threads = (packs + of_thread - 1) / of_thread;
    return static_cast<int>(
        std::clamp<int64_t>((threads + kWarp - 1) / kWarp * kWarp, kWarp, kMostThreads));
}

// --- forward ---------------------------------------------------------------------------------

// A row of a block: a thread has every blockDim.x-th pack of n elements. `kept` packs stay in its
// registers after they are loaded; with kept = 0, for rows of any length, they are read again by
// each loop.
template <typename T, int n, int kept>
class BlockRow {
public:
    __device__ BlockRow(const T* row, int64_t packs) : row_(row), packs_(packs) {
#pragma unroll
        for (int i = 0; i < kept; ++i) {
            const int64_t pack = threadIdx.x + i * blockDim.x;
            if (pack < packs_) values_[i] = load_floats<n>(row_ + pack * n);
        }
    }

    // body(pack, values of the pack), for all packs of this thread.
    template <typename Body>
    __device__ void for_each(const Body& body) const {
        if constexpr (kept > 0) {
#pragma unroll
            for (int i = 0; i < kept; ++i) {
                const int64_t pack = threadIdx.x + i * blockDim.x;
                if (pack < packs_) body(pack, values_[i]);
            }
        } else {
            for (int64_t pack = threadIdx.x; pack < packs_; pack += blockDim.x) {
                body(pack, load_floats<n>(row_ + pack * n));
            }
        }
    }

private:
    const T* row_;
    int64_t packs_;
    Floats<n> values_[kept > 0 ? kept : 1];
};

// One block a row. Layer norm: a mean, then a pass of its own over the deviations, which loses
// nothing to cancellation and finds the rounding error of the mean too.
template <typename T, int n, int kept>
__global__ void __launch_bounds__(kMostThreads)
    layer_norm_forward_kernel(const T* x, const T* weight, const T* bias, float eps, T* y,
                              float* means, float* rstds, int64_t cols) {
    const int64_t start = blockIdx.x * cols;
    const BlockRow<T, n, kept> row(x + start, cols / n);
    const float count = static_cast<float>(cols);
    Two sum;
    row.for_each([&](int64_t, const Floats<n>& values) {
#pragma unroll
        for (int k = 0; k < n; ++k) sum.a += values[k];
    });
    const float center = block_sum(sum, 0).a / count;
    Two of_deviations;
    row.for_each([&](int64_t, const Floats<n>& values) {
#pragma unroll
        for (int k = 0; k < n; ++k) {
            const float deviation = values[k] - center;
            of_deviations.a += deviation;
            of_deviations.b += deviation * deviation;
        }
    });
    of_deviations = block_sum(of_deviations, 1);
    const float shift = of_deviations.a / count;
    const float variance = of_deviations.b / count - shift * shift;
    const float mean = center + shift;
    // Not fmaxf, which would turn NaN into 0.
    const float rstd = reciprocal_root((variance < 0.0f ? 0.0f : variance) + eps);
    row.for_each([&](int64_t pack, const Floats<n>& values) {
        const Floats<n> w = load_floats<n>(weight + pack * n);
        const Floats<n> b = load_floats<n>(bias + pack * n);
        Floats<n> result;
#pragma unroll
        for (int k = 0; k < n; ++k) result[k] = (values[k] - mean) * rstd * w[k] + b[k];
        store_floats<n>(y + start + pack * n, result);
    });
    if (threadIdx.x == 0) {
        means[blockIdx.x] = mean;
        rstds[blockIdx.x] = rstd;
    }
}

template <typename T, int n, int kept>
__global__ void __launch_bounds__(kMostThreads)
    rms_norm_forward_kernel(const T* x, const T* weight, float eps, T* y, float* rstds,
                            int64_t cols) {
    const int64_t start = blockIdx.x * cols;
    const BlockRow<T, n, kept> row(x + start, cols / n);
    Two sum;
    row.for_each([&](int64_t, const Floats<n>& values) {
#pragma unroll
        for (int k = 0; k < n; ++k) sum.a += values[k] * values[k];
    });
    const float mean_square = block_sum(sum, 0).a / static_cast<float>(cols);
    const float rstd = reciprocal_root(mean_square + eps);
    row.for_each([&](int64_t pack, const Floats<n>& values) {
        const Floats<n> w = load_floats<n>(weight + pack * n);
        Floats<n> result;
#pragma unroll
        for (int k = 0; k < n; ++k) result[k] = values[k] * rstd * w[k];
        store_floats<n>(y + start + pack * n, result);
    });
    if (threadIdx.x == 0) rstds[blockIdx.x] = rstd;
}

// Calls body.template operator()<T, n, kept>(grid) for rows of these sizes.
template <typename Body>
void with_block_rows(DType type, int64_t rows, int64_t cols,
                     std::initializer_list<const void*> addresses, const Body& body) {
    constexpr int kKept = 4;
    with_packs(type, cols, addresses, [&]<typename T, int n>() {
        const int64_t packs = cols / n;
        const Grid grid{dim3(static_cast<unsigned>(rows)),
                        dim3(static_cast<unsigned>(row_threads(packs, kKept)))};
        if (packs <= kKept * kMostThreads) {
            body.template operator()<T, n, kKept>(grid);
        } else {
            body.template operator()<T, n, 0>(grid);
        }
    });
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

// n elements as they are in memory. Whole words, so that a pack loaded ahead of its use waits in as
// few registers as it has words and is not taken apart until then.
template <typename T, int n>
struct RawPack {
    struct alignas(16) Words {
        uint32_t words[4];
    };
    using Bits = std::conditional_t<sizeof(T) * n == 16, Words, T>;
    Bits bits{};

    __device__ void load(const T* from) { bits = *reinterpret_cast<const Bits*>(from); }
    __device__ Floats<n> floats() const {
        const auto pack = std::bit_cast<Pack<T, n>>(bits);
        Floats<n> result;
#pragma unroll
        for (int k = 0; k < n; ++k) result[k] = to_float(pack.values[k]);
        return result;
    }
};

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

// dweight, and dbias behind it in the columns of partials, += the sums of the columns. A block
// takes 32 columns; its warps take the rows in turn, and their sums are added in order.
constexpr int kSumWarps = 32;

__global__ void __launch_bounds__(kSumWarps* kWarp)
    add_column_sums_kernel(const float* partials, int64_t rows, int64_t partial_cols, int64_t cols,
                           float* dweight, float* dbias) {
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
        dweight[col] += total;
    } else {
        dbias[col - cols] += total;
    }
}

template <bool centered>
void norm_backward(cudaStream_t stream, Scratch& scratch, const Tensor& dy, const Tensor& x,
                   const Tensor& weight, const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                   const Tensor& dweight, const Tensor& dbias) {
    const int64_t rows = x.rows();
    const int64_t cols = x.cols();
    TRIREME_CHECK(same_matrix(dy, x) && same_matrix(dx, x) && is_vector(weight, x.dtype, cols),
                  "norm gradients and weight of the input's size and type");
    TRIREME_CHECK(is_vector(rstd, DType::f32, rows), "one f32 statistic for each row");
    TRIREME_CHECK(is_vector(dweight, DType::f32, cols), "an f32 gradient of the norm's weight");
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
        launch(add_column_sums_kernel,
               {dim3(static_cast<unsigned>((partial_cols + kWarp - 1) / kWarp)),
                dim3(kSumWarps * kWarp)},
               stream, partials, blocks, partial_cols, cols, dweight.as<float>(),
               centered ? dbias.as<float>() : nullptr);
    });
}

}  // namespace

void CudaOps::layer_norm_forward(Stream& stream, const Tensor& x, const Tensor& weight,
                                 const Tensor& bias, float eps, const Tensor& y, const Tensor& mean,
                                 const Tensor& rstd) {
    const int64_t rows = x.rows();
    const int64_t cols = x.cols();
    TRIREME_CHECK(
        same_matrix(x, y) && is_vector(weight, x.dtype, cols) && is_vector(bias, x.dtype, cols),
        "norm output, weight and bias of the input's size and type");
    TRIREME_CHECK(is_vector(mean, DType::f32, rows) && is_vector(rstd, DType::f32, rows),
                  "one f32 mean and reciprocal deviation for each row");
    with_block_rows(x.dtype, rows, cols, {x.data, weight.data, bias.data, y.data},
                    [&]<typename T, int n, int kept>(const Grid& grid) {
                        launch(layer_norm_forward_kernel<T, n, kept>, grid, handle_of(stream),
                               x.as<T>(), weight.as<T>(), bias.as<T>(), eps, y.as<T>(),
                               mean.as<float>(), rstd.as<float>(), cols);
                    });
}

void CudaOps::layer_norm_backward(Stream& stream, const Tensor& dy, const Tensor& x,
                                  const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                                  const Tensor& dx, const Tensor& dweight, const Tensor& dbias) {
    TRIREME_CHECK(is_vector(mean, DType::f32, x.rows()), "one f32 mean for each row");
    TRIREME_CHECK(is_vector(dbias, DType::f32, x.cols()), "an f32 gradient of the norm's bias");
    norm_backward<true>(handle_of(stream), scratch_, dy, x, weight, mean, rstd, dx, dweight, dbias);
}

void CudaOps::rms_norm_forward(Stream& stream, const Tensor& x, const Tensor& weight, float eps,
                               const Tensor& y, const Tensor& rstd) {
    const int64_t rows = x.rows();
    const int64_t cols = x.cols();
    TRIREME_CHECK(same_matrix(x, y) && is_vector(weight, x.dtype, cols),
                  "norm output and weight of the input's size and type");
    TRIREME_CHECK(is_vector(rstd, DType::f32, rows), "one f32 statistic for each row");
    with_block_rows(x.dtype, rows, cols, {x.data, weight.data, y.data},
                    [&]<typename T, int n, int kept>(const Grid& grid) {
                        launch(rms_norm_forward_kernel<T, n, kept>, grid, handle_of(stream),
                               x.as<T>(), weight.as<T>(), eps, y.as<T>(), rstd.as<float>(), cols);
                    });
}

void CudaOps::rms_norm_backward(Stream& stream, const Tensor& dy, const Tensor& x,
                                const Tensor& weight, const Tensor& rstd, const Tensor& dx,
                                const Tensor& dweight) {
    norm_backward<false>(handle_of(stream), scratch_, dy, x, weight, Tensor(), rstd, dx, dweight,
                         Tensor());
}

}  // namespace trireme
