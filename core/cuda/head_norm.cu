#include <bit>

#include "core/cuda/column_sum.h"
#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/head_norm_shape.h"

namespace trireme {

namespace {

constexpr int kHeadWarps = 4;  // of a block, at most

// A group of lanes, a power of two, takes a head: its lanes have every `lanes`-th pack of n
// elements. So lanes are not idle where a head has fewer packs than a warp has lanes.
struct LaneGroup {
    int lanes;

    __device__ int lane() const { return static_cast<int>(threadIdx.x) % lanes; }
    __device__ int index() const { return static_cast<int>(threadIdx.x) / lanes; }
    __device__ int of_block() const { return static_cast<int>(blockDim.x) / lanes; }

    // Of the group's lanes, in all of them. All lanes of a warp call it.
    __device__ float sum(float value) const {
        for (int offset = lanes / 2; offset > 0; offset /= 2) {
            value += __shfl_xor_sync(0xffffffffu, value, offset);
        }
        return value;
    }
};

LaneGroup group_for(int64_t packs) {
    return {
        static_cast<int>(std::min<int64_t>(kWarp, std::bit_ceil(static_cast<uint64_t>(packs))))};
}

template <typename T, int n>
__device__ float head_rstd(const LaneGroup& group, const T* x, int head_dim, float eps,
                           bool is_active) {
    float sum = 0.0f;
    for (int i = group.lane() * n; is_active && i < head_dim; i += group.lanes * n) {
        const Floats<n> values = load_floats<n>(x + i);
#pragma unroll
        for (int k = 0; k < n; ++k) sum += values[k] * values[k];
    }
    return 1.0f / sqrtf(group.sum(sum) / static_cast<float>(head_dim) + eps);
}

// A block takes a row of qkv.
template <typename T, int n>
__global__ void __launch_bounds__(kHeadWarps* kWarp)
    head_norm_forward_kernel(const T* __restrict__ qkv, const T* query_weight, const T* key_weight,
                             float eps, HeadNormShape s, LaneGroup group, T* __restrict__ out) {
    const int head_dim = static_cast<int>(s.head_dim);
    const int all_heads = static_cast<int>(s.cols / s.head_dim);
    for (int first = 0; first < all_heads; first += group.of_block()) {
        const int h = first + group.index();
        const int64_t at = blockIdx.x * s.cols + static_cast<int64_t>(h) * head_dim;
        const bool is_normed = h < s.normed_heads;
        const T* weight = h < s.heads ? query_weight : key_weight;
        const float rstd = head_rstd<T, n>(group, qkv + at, head_dim, eps, is_normed);
        if (h >= all_heads) continue;
        for (int i = group.lane() * n; i < head_dim; i += group.lanes * n) {
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

// Where groups sum the weights' gradients: [groups][D of the queries, D of the keys].
__device__ inline float* sums_of_block() {
#ifdef __CUDACC__
    extern __shared__ __align__(16) float all_sums[];
    return all_sums;
#else
    return static_cast<float*>(cuda_emulation::dynamic_shared_memory());
#endif
}

// A block takes a range of the rows, its groups the heads of each in turn. Each block writes a row
// of partials: the groups' sums, added in order.
template <typename T, int n>
__global__ void __launch_bounds__(kHeadWarps* kWarp, 8)
    head_norm_backward_kernel(const T* __restrict__ qkv, const T* query_weight, const T* key_weight,
                              float eps, HeadNormShape s, LaneGroup group, T* __restrict__ dqkv,
                              float* partials) {
    const int head_dim = static_cast<int>(s.head_dim);
    const int first_element = group.lane() * n;
    const int stride = group.lanes * n;
    // Each lane has its own elements of its group's sums, so that they need no barrier.
    float* sums = sums_of_block() + group.index() * 2 * head_dim;
    for (int i = first_element; i < head_dim; i += stride) {
        store_floats<n>(sums + i, Floats<n>{});
        store_floats<n>(sums + head_dim + i, Floats<n>{});
    }
    const int64_t end = s.rows * (blockIdx.x + 1) / gridDim.x;
    for (int64_t row = s.rows * blockIdx.x / gridDim.x; row < end; ++row) {
        for (int first = 0; first < s.normed_heads; first += group.of_block()) {
            const int h = first + group.index();
            const bool is_active = h < s.normed_heads;
            const int64_t at = row * s.cols + static_cast<int64_t>(h) * head_dim;
            const T* weight = h < s.heads ? query_weight : key_weight;
            float* dweight = h < s.heads ? sums : sums + head_dim;
            const float rstd = head_rstd<T, n>(group, qkv + at, head_dim, eps, is_active);
            float sum = 0.0f;
            for (int i = first_element; is_active && i < head_dim; i += stride) {
                const Floats<n> x = load_floats<n>(qkv + at + i);
                const Floats<n> dy = load_floats<n>(dqkv + at + i);
                const Floats<n> w = load_floats<n>(weight + i);
#pragma unroll
                for (int k = 0; k < n; ++k) sum += dy[k] * w[k] * (x[k] * rstd);
            }
            const float mean = group.sum(sum) / static_cast<float>(head_dim);
            for (int i = first_element; is_active && i < head_dim; i += stride) {
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
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 2 * head_dim;
         i += static_cast<int>(blockDim.x)) {
        float total = 0.0f;
        for (int g = 0; g < group.of_block(); ++g) total += sums_of_block()[g * 2 * head_dim + i];
        partials[blockIdx.x * 2 * s.head_dim + i] = total;
    }
}

// Few enough rows of partials that adding them up is short, enough blocks to keep a GPU busy.
constexpr int64_t kMostBlocks = 132 * 8;
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
                          eps, s, group_for(s.head_dim / n), out.as<T>());
               });
}

void CudaOps::head_norm_backward(Stream& stream, const Tensor& qkv, const Tensor& query_weight,
                                 const Tensor& key_weight, float eps, int heads, int kv_heads,
                                 const Tensor& dqkv, const Tensor& dquery_weight,
                                 const Tensor& dkey_weight) {
    const auto s = HeadNormShape::of(qkv, query_weight, key_weight, heads, kv_heads, dqkv);
    s.check_weight_gradients(dquery_weight, dkey_weight);
    if (s.rows == 0) return;
    const int64_t blocks = std::min(kMostBlocks, divide_up(s.rows, kLeastRowsOfBlock));
    auto* partials = scratch_.reserve_elements<float>(blocks * 2 * s.head_dim);
    with_packs(
        qkv.dtype, s.head_dim, {qkv.data, query_weight.data, key_weight.data, dqkv.data},
        [&]<typename T, int n>() {
            const LaneGroup group = group_for(s.head_dim / n);
            const int64_t bytes_of_warp =
                kWarp / group.lanes * 2 * s.head_dim * static_cast<int64_t>(sizeof(float));
            const int64_t warps = std::clamp<int64_t>(kSharedBytes / bytes_of_warp, 1, kHeadWarps);
            launch(head_norm_backward_kernel<T, n>,
                   {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(warps * kWarp)),
                    static_cast<size_t>(warps * bytes_of_warp)},
                   handle_of(stream), qkv.as<T>(), query_weight.as<T>(), key_weight.as<T>(), eps, s,
                   group, dqkv.as<T>(), partials);
        });
    add_columns(handle_of(stream), partials, blocks, s.head_dim, dquery_weight.as<float>(),
                dkey_weight.as<float>());
}

}  // namespace trireme
