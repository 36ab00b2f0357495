#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/formulas.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

// A block a row: at most so many threads, each with at least kAhead accesses to the row.
constexpr int kMostThreads = 512;
constexpr int kAhead = 4;

// Calls body(column, n elements from there) for a thread's share of a row's first `cols` columns;
// the last elements may lie beyond them, within the row. kAhead accesses are under way at a time,
// also where body stores to the row.
template <int n, typename Body>
__device__ void for_share_of_row(const float* row, int64_t cols, const Body& body) {
    const int64_t stride = static_cast<int64_t>(blockDim.x) * n;
    int64_t c = static_cast<int64_t>(threadIdx.x) * n;
    for (; c + (kAhead - 1) * stride < cols; c += kAhead * stride) {
        Floats<n> x[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) x[a] = load_floats<n>(row + c + a * stride);
#pragma unroll
        for (int a = 0; a < kAhead; ++a) body(c + a * stride, x[a]);
    }
    for (; c < cols; c += stride) body(c, load_floats<n>(row + c));
}

// Column of a label in this rank's part, or -1; first_row >= 0, so a negative label gives -1.
__device__ int64_t local_column(int32_t label, int64_t first_row, int64_t valid_cols) {
    const int64_t column = label - first_row;
    return column >= 0 && column < valid_cols ? column : -1;
}

// A NaN is passed over here and comes out of the exponentials, as on the CPU.
template <int n>
__global__ void __launch_bounds__(kMostThreads)
    row_max_kernel(const float* logits, int64_t cols, int64_t valid_cols, float* row_max) {
    float most = Max::identity<float>();
    for_share_of_row<n>(logits + blockIdx.x * cols, valid_cols,
                        [&](int64_t column, const Floats<n>& x) {
#pragma unroll
                            for (int k = 0; k < n; ++k) {
                                if (column + k < valid_cols) most = Max()(x[k], most);
                            }
                        });
    most = block_reduce<Max>(most);
    if (threadIdx.x == 0) row_max[blockIdx.x] = most;
}

template <int n>
__global__ void __launch_bounds__(kMostThreads)
    row_exp_kernel(float* logits, int64_t cols, int64_t valid_cols, const float* row_max,
                   const int32_t* labels, int64_t first_row, float* exp_sums, float* label_logits) {
    float* row = logits + blockIdx.x * cols;
    const float maximum = row_max[blockIdx.x];
    if (threadIdx.x == 0) {
        const int64_t at = local_column(labels[blockIdx.x], first_row, valid_cols);
        label_logits[blockIdx.x] = at < 0 ? 0.0f : row[at] - maximum;
    }
    __syncthreads();  // the label's logit has been read
    // In f64 over packs, so that a long row loses nothing.
    double sum = 0.0;
    for_share_of_row<n>(row, cols, [&](int64_t column, const Floats<n>& x) {
        Floats<n> exps;
        float pack_sum = 0.0f;
#pragma unroll
        for (int k = 0; k < n; ++k) {
            exps[k] = column + k < valid_cols ? fast_exp(x[k] - maximum) : 0.0f;
            pack_sum += exps[k];
        }
        store_floats<n>(row + column, exps);
        sum += static_cast<double>(pack_sum);
    });
    sum = block_reduce<Sum>(sum);
    if (threadIdx.x == 0) exp_sums[blockIdx.x] = static_cast<float>(sum);
}

__global__ void loss_kernel(const int32_t* labels, const float* exp_sums, const float* label_logits,
                            int64_t rows, float* losses) {
    for (int64_t i = grid_first(); i < rows; i += grid_stride()) {
        const double loss = log(static_cast<double>(exp_sums[i])) - label_logits[i];
        losses[i] = labels[i] < 0 ? 0.0f : static_cast<float>(loss);
    }
}

// dlogits may be exp_logits.
template <typename T, int n>
__global__ void __launch_bounds__(kMostThreads)
    logits_gradient_kernel(const float* exp_logits, int64_t cols, int64_t valid_cols,
                           const int32_t* labels, int64_t first_row, const float* exp_sums,
                           float scale, T* dlogits) {
    T* gradient = dlogits + blockIdx.x * cols;
    const int32_t label = labels[blockIdx.x];
    if (label < 0) {
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * n; c < cols; c += blockDim.x * n) {
            store_floats<n>(gradient + c, Floats<n>{});
        }
        return;
    }
    const int64_t at = local_column(label, first_row, valid_cols);
    const float exp_sum = exp_sums[blockIdx.x];
    const float factor = scale / exp_sum;
    // The label's element needs a division and is put right after the loop by the thread that has
    // it. In the loop, branches would lie around the stores, and the compiler took them apart.
    float exp_of_label = -1.0f;
    for_share_of_row<n>(exp_logits + blockIdx.x * cols, cols,
                        [&](int64_t column, const Floats<n>& x) {
                            Floats<n> d;
#pragma unroll
                            for (int k = 0; k < n; ++k) {
                                d[k] = column + k < valid_cols ? x[k] * factor : 0.0f;
                                exp_of_label = column + k == at ? x[k] : exp_of_label;
                            }
                            store_whole<n>(gradient + column, d);
                        });
    if (exp_of_label >= 0.0f) {
        gradient[at] = from_float<T>((exp_of_label / exp_sum - 1.0f) * scale);
    }
}

// Calls body with the elements an access of f32 rows, and of bf16 rows beside them.
template <typename Body>
void with_row_packs(int64_t cols, std::initializer_list<const void*> addresses, const Body& body) {
    if (allows_packs<float>(cols, addresses)) {
        body.template operator()<kPackElements<float>>();
    } else {
        body.template operator()<1>();
    }
}

Grid row_grid(const Tensor& logits, int pack) {
    const int64_t accesses = (logits.cols() + pack - 1) / pack;
    const int64_t warps = (accesses + kAhead * kWarp - 1) / (kAhead * kWarp);
    const int64_t threads = std::min<int64_t>(warps * kWarp, kMostThreads);
    return {dim3(static_cast<unsigned>(logits.rows())), dim3(static_cast<unsigned>(threads))};
}

}  // namespace

void CudaOps::cross_entropy_max(Stream& stream, const Tensor& logits, int64_t valid_cols,
                                const Tensor& row_max) {
    check_cross_entropy_max(logits, valid_cols, row_max);
    const int64_t cols = logits.cols();
    with_row_packs(cols, {logits.data}, [&]<int n>() {
        launch(row_max_kernel<n>, row_grid(logits, n), handle_of(stream), logits.as<float>(), cols,
               valid_cols, row_max.as<float>());
    });
}

void CudaOps::cross_entropy_exp(Stream& stream, const Tensor& logits, int64_t valid_cols,
                                const Tensor& row_max, const Tensor& labels, int64_t first_row,
                                const Tensor& sums) {
    check_cross_entropy_exp(logits, valid_cols, row_max, labels, first_row, sums);
    const int64_t rows = logits.rows();
    const int64_t cols = logits.cols();
    with_row_packs(cols, {logits.data}, [&]<int n>() {
        launch(row_exp_kernel<n>, row_grid(logits, n), handle_of(stream), logits.as<float>(), cols,
               valid_cols, row_max.as<float>(), labels.as<int32_t>(), first_row, sums.as<float>(),
               sums.as<float>() + rows);
    });
}

void CudaOps::cross_entropy_finish(Stream& stream, const Tensor& exp_logits, int64_t valid_cols,
                                   const Tensor& labels, int64_t first_row, const Tensor& sums,
                                   float scale, const Tensor& losses, const Tensor& dlogits) {
    check_cross_entropy_finish(exp_logits, valid_cols, labels, first_row, sums, losses, dlogits);
    const int64_t rows = exp_logits.rows();
    const int64_t cols = exp_logits.cols();
    if (rows == 0) return;
    launch(loss_kernel, element_grid(rows), handle_of(stream), labels.as<int32_t>(),
           sums.as<float>(), sums.as<float>() + rows, rows, losses.as<float>());
    if (!dlogits) return;
    with_packs(dlogits.dtype, 1, {}, [&]<typename T, int>() {
        with_row_packs(cols, {exp_logits.data, dlogits.data}, [&]<int n>() {
            launch(logits_gradient_kernel<T, n>, row_grid(exp_logits, n), handle_of(stream),
                   exp_logits.as<float>(), cols, valid_cols, labels.as<int32_t>(), first_row,
                   sums.as<float>(), scale, dlogits.as<T>());
        });
    });
}

}  // namespace trireme
