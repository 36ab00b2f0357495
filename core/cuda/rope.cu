#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/formulas.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

constexpr int64_t kHeadsOfThread = 4;
constexpr int64_t kLeastThreads = 128;  // of a block, where a row has work for them

// A block takes one row of qkv. threadIdx.x runs over the packs of half a head and threadIdx.y over
// the heads, so that a thread reads the cosines and sines of its pack once for all its heads.
// sign 1 rotates forward, -1 back.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    rotate_kernel(T* qkv, const float* cos_sin, float sign, int64_t cols, int64_t sequence,
                  int rotated_heads, int half) {
    T* row = qkv + blockIdx.x * cols;
    const int64_t position = blockIdx.x % static_cast<uint32_t>(sequence);
    const float* cos_row = cos_sin + position * 2 * half;
    const int stride = static_cast<int>(blockDim.x) * n;
    for (int i = static_cast<int>(threadIdx.x) * n; i < half; i += stride) {
        const Floats<n> cos = load_floats<n>(cos_row + i);
        Floats<n> sin = load_floats<n>(cos_row + half + i);
#pragma unroll
        for (int k = 0; k < n; ++k) sin[k] *= sign;
        for (int h = static_cast<int>(threadIdx.y); h < rotated_heads;
             h += static_cast<int>(blockDim.y)) {
            T* head = row + static_cast<int64_t>(h) * 2 * half + i;
            Floats<n> first = load_floats<n>(head);
            Floats<n> second = load_floats<n>(head + half);
#pragma unroll
            for (int k = 0; k < n; ++k) {
                const RotatedPair pair = rotate_pair(first[k], second[k], cos[k], sin[k]);
                first[k] = pair.first;
                second[k] = pair.second;
            }
            store_floats<n>(head, first);
            store_floats<n>(head + half, second);
        }
    }
}

Grid rotate_grid(int64_t rows, int64_t rotated_heads, int64_t packs_of_half) {
    const int64_t width = std::min<int64_t>(packs_of_half, kBlockThreads);
    const int64_t wanted =
        std::max((rotated_heads + kHeadsOfThread - 1) / kHeadsOfThread, kLeastThreads / width);
    const int64_t height = std::min({wanted, rotated_heads, kBlockThreads / width});
    return {
        dim3(static_cast<unsigned>(rows)),
        dim3(static_cast<unsigned>(width), static_cast<unsigned>(std::max<int64_t>(height, 1)))};
}

void rotate(cudaStream_t stream, const Tensor& qkv, const Tensor& cos_sin, int heads, int kv_heads,
            int head_dim, float sign) {
    check_rope(qkv, cos_sin, heads, kv_heads, head_dim);
    const int half = head_dim / 2;
    const int64_t sequence = qkv.shape[1];
    const int rotated_heads = heads + kv_heads;  // query heads, then key heads
    with_packs(qkv.dtype, half, {qkv.data, cos_sin.data}, [&]<typename T, int n>() {
        launch(rotate_kernel<T, n>, rotate_grid(qkv.rows(), rotated_heads, half / n), stream,
               qkv.as<T>(), cos_sin.as<float>(), sign, qkv.cols(), sequence, rotated_heads, half);
    });
}

}  // namespace

void CudaOps::rope_forward(Stream& stream, const Tensor& qkv, const Tensor& cos_sin, int heads,
                           int kv_heads, int head_dim) {
    rotate(handle_of(stream), qkv, cos_sin, heads, kv_heads, head_dim, 1.0f);
}

void CudaOps::rope_backward(Stream& stream, const Tensor& dqkv, const Tensor& cos_sin, int heads,
                            int kv_heads, int head_dim) {
    rotate(handle_of(stream), dqkv, cos_sin, heads, kv_heads, head_dim, -1.0f);
}

}  // namespace trireme
