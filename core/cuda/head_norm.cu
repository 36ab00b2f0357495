#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/head_norm_shape.h"

namespace trireme {

namespace {

// A warp takes a head: its lanes have every 32nd pack of n elements.
constexpr int kHeadWarps = 4;  // of a block

__device__ inline int lane_of_warp() {
    return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ inline int warp_of_block() {
    return static_cast<int>(threadIdx.x) / kWarp;
}

template <typename T, int n>
__device__ float head_rstd(const T* x, int head_dim, float eps) {
    float sum = 0.0f;
    for (int i = lane_of_warp() * n; i < head_dim; i += kWarp * n) {
        const Floats<n> values = load_floats<n>(x + i);
#pragma unroll
        for (int k = 0; k < n; ++k) sum += values[k] * values[k];
    }
    return 1.0f / sqrtf(warp_reduce<Sum>(sum) / static_cast<float>(head_dim) + eps);
}

// A block takes a row of qkv.
template <typename T, int n>
__global__ void __launch_bounds__(kHeadWarps* kWarp)
    head_norm_forward_kernel(const T* qkv, const T* query_weight, const T* key_weight, float eps,
                             HeadNormShape s, T* out) {
    const int head_dim = static_cast<int>(s.head_dim);
    const int all_heads = static_cast<int>(s.cols / s.head_dim);
    for (int h = warp_of_block(); h < all_heads; h += kHeadWarps) {
        const int64_t at = blockIdx.x * s.cols + static_cast<int64_t>(h) * head_dim;
        const bool is_normed = h < s.normed_heads;
        const T* weight = h < s.heads ? query_weight : key_weight;
        const float rstd = is_normed ? head_rstd<T, n>(qkv + at, head_dim, eps) : 1.0f;
        for (int i = lane_of_warp() * n; i < head_dim; i += kWarp * n) {
            Floats<n> values = load_floats<n>(qkv + at + i);
            if (is_normed) {
                const Floats<n> w = load_floats<n>(weight + i);
#pragma unroll
                for (int k = 0; k < n; ++k) values[k] = values[k] * rstd * w[k];
            }
            store_floats<n>(out + at + i, values);
        }
    }
}

// Where a warp sums the weights' gradients: [D] of the queries, [D] of the keys. Each lane has its
// own elements, so that they need no barrier.
__device__ inline float* sums_of_warp(int head_dim) {
#ifdef __CUDACC__
    extern __shared__ __align__(16) float all_sums[];
#else
    auto* all_sums = static_cast<float*>(cuda_emulation::dynamic_shared_memory());
#endif
    return all_sums + warp_of_block() * 2 * head_dim;
}

// A block takes a range of the rows, and a warp every blockDim.x / 32-th head of them. Each warp
// writes a row of partials.
template <typename T, int n>
__global__ void __launch_bounds__(kHeadWarps* kWarp)
    head_norm_backward_kernel(const T* qkv, const T* query_weight, const T* key_weight, float eps,
                              HeadNormShape s, T* dqkv, float* partials) {
    const int head_dim = static_cast<int>(s.head_dim);
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    const int first = lane_of_warp() * n;
    float* sums = sums_of_warp(head_dim);
    for (int i = first; i < head_dim; i += kWarp * n) {
        store_floats<n>(sums + i, Floats<n>{});
        store_floats<n>(sums + head_dim + i, Floats<n>{});
    }
    const int64_t begin = s.rows * blockIdx.x / gridDim.x;
    const int64_t end = s.rows * (blockIdx.x + 1) / gridDim.x;
    for (int64_t item = begin * s.normed_heads + warp_of_block(); item < end * s.normed_heads;
         item += warps) {
        const int h = static_cast<int>(item % s.normed_heads);
        const int64_t at = item / s.normed_heads * s.cols + static_cast<int64_t>(h) * head_dim;
        const T* weight = h < s.heads ? query_weight : key_weight;
        float* dweight = h < s.heads ? sums : sums + head_dim;
        const float rstd = head_rstd<T, n>(qkv + at, head_dim, eps);
        float sum = 0.0f;
        for (int i = first; i < head_dim; i += kWarp * n) {
            const Floats<n> x = load_floats<n>(qkv + at + i);
            const Floats<n> dy = load_floats<n>(dqkv + at + i);
            const Floats<n> w = load_floats<n>(weight + i);
#pragma unroll
            for (int k = 0; k < n; ++k) sum += dy[k] * w[k] * (x[k] * rstd);
        }
        const float mean = warp_reduce<Sum>(sum) / static_cast<float>(head_dim);
        for (int i = first; i < head_dim; i += kWarp * n) {
            const Floats<n> x = load_floats<n>(qkv + at + i);
            const Floats<n> w = load_floats<n>(weight + i);
            Floats<n> gradient = load_floats<n>(dqkv + at + i);
            Floats<n> total = load_floats<n>(dweight + i);
#pragma unroll
            for (int k = 0; k < n; ++k) {
                const float normalized = x[k] * rstd;
                total[k] += gradient[k] * normalized;
                gradient[k] = rstd * (gradient[k] * w[k] - normalized * mean);
            }
            store_floats<n>(dweight + i, total);
            store_floats<n>(dqkv + at + i, gradient);
        }
    }
    float* partial = partials + (blockIdx.x * warps + warp_of_block()) * 2 * s.head_dim;
    for (int i = first; i < head_dim; i += kWarp * n) {
        store_floats<n>(partial + i, load_floats<n>(sums + i));
        store_floats<n>(partial + head_dim + i, load_floats<n>(sums + head_dim + i));
    }
}

// The rows of partials added up in order, each element by a thread.
__global__ void __launch_bounds__(kBlockThreads)
    add_head_partials_kernel(const float* partials, int64_t rows, int64_t head_dim,
                             float* dquery_weight, float* dkey_weight) {
    for (int64_t i = grid_first(); i < 2 * head_dim; i += grid_stride()) {
        float sum = 0.0f;
#pragma unroll 8
        for (int64_t row = 0; row < rows; ++row) sum += partials[row * 2 * head_dim + i];
        if (i < head_dim) {
            dquery_weight[i] += sum;
        } else {
            dkey_weight[i - head_dim] += sum;
        }
    }
}

// Few enough rows of partials that adding them up is short, enough blocks to keep a GPU busy.
constexpr int64_t kMostBlocks = 132 * 2;
constexpr int64_t kLeastRowsOfBlock = 4;
constexpr int64_t kSharedBytes = 48 << 10;  // that every kernel may have

}  // namespace

void CudaOps::head_norm_forward(Stream& stream, const Tensor& qkv, const Tensor& query_weight,
                                const Tensor& key_weight, float eps, int heads, int kv_heads,
                                const Tensor& out) {
    const auto s = HeadNormShape::of(qkv, query_weight, key_weight, heads, kv_heads, out);
    with_packs(qkv.dtype, s.head_dim, {qkv.data, query_weight.data, key_weight.data, out.data},
               [&]<typename T, int n>() {
                   launch(head_norm_forward_kernel<T, n>,
                          {dim3(static_cast<unsigned>(s.rows)), dim3(kHeadWarps * kWarp)},
                          handle_of(stream), qkv.as<T>(), query_weight.as<T>(), key_weight.as<T>(),
                          eps, s, out.as<T>());
               });
}

void CudaOps::head_norm_backward(Stream& stream, const Tensor& qkv, const Tensor& query_weight,
                                 const Tensor& key_weight, float eps, int heads, int kv_heads,
                                 const Tensor& dqkv, const Tensor& dquery_weight,
                                 const Tensor& dkey_weight) {
    const auto s = HeadNormShape::of(qkv, query_weight, key_weight, heads, kv_heads, dqkv);
    TRIREME_CHECK(is_vector(dquery_weight, DType::f32, s.head_dim) &&
                      is_vector(dkey_weight, DType::f32, s.head_dim),
                  "f32 gradients of the heads' weights");
    if (s.rows == 0) return;
    const int64_t bytes_of_warp = 2 * s.head_dim * static_cast<int64_t>(sizeof(float));
    const int64_t warps = std::clamp<int64_t>(kSharedBytes / bytes_of_warp, 1, kHeadWarps);
    const int64_t blocks = std::min(kMostBlocks, divide_up(s.rows, kLeastRowsOfBlock));
    auto* partials = scratch_.reserve_elements<float>(blocks * warps * 2 * s.head_dim);
    with_packs(
        qkv.dtype, s.head_dim, {qkv.data, query_weight.data, key_weight.data, dqkv.data},
        [&]<typename T, int n>() {
            launch(head_norm_backward_kernel<T, n>,
                   {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(warps * kWarp)),
                    static_cast<size_t>(warps * bytes_of_warp)},
                   handle_of(stream), qkv.as<T>(), query_weight.as<T>(), key_weight.as<T>(), eps, s,
                   dqkv.as<T>(), partials);
        });
    launch(add_head_partials_kernel, element_grid(2 * s.head_dim), handle_of(stream), partials,
           blocks * warps, s.head_dim, dquery_weight.as<float>(), dkey_weight.as<float>());
}

}  // namespace trireme
