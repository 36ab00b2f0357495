#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/formulas.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

template <typename T>
void rotate_head(T* head, const float* cos, const float* sin, float sign, int64_t half) {
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
        const RotatedPair pair =
            rotate_pair(load(head, i), load(head, half + i), cos[i], sign * sin[i]);
        store(head, i, pair.first);
        store(head, half + i, pair.second);
    }
}

// sign 1 rotates forward, -1 back.
void rotate(int threads, const Tensor& qkv, const Tensor& cos_sin, int heads, int kv_heads,
            int head_dim, float sign) {
    check_rope(qkv, cos_sin, heads, kv_heads, head_dim);
    const int64_t half = head_dim / 2;
    const int64_t sequence = qkv.shape[1];
    const int64_t cols = qkv.cols();
    const int64_t rotated = heads + kv_heads;  // query heads, then key heads
    with_activation_type(qkv.dtype, [&]<typename T>() {
        T* data = qkv.as<T>();
        const float* table = cos_sin.as<float>();
        parallel_ranges(threads, qkv.rows(), row_grain(cols), [=](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; ++n) {
                const float* cos = table + (n % sequence) * 2 * half;
                for (int64_t h = 0; h < rotated; ++h) {
                    rotate_head(data + n * cols + h * 2 * half, cos, cos + half, sign, half);
                }
            }
        });
    });
}

}  // namespace

void CpuOps::rope_forward(Stream&, const Tensor& qkv, const Tensor& cos_sin, int heads,
                          int kv_heads, int head_dim) {
    rotate(threads_, qkv, cos_sin, heads, kv_heads, head_dim, 1.0f);
}

void CpuOps::rope_backward(Stream&, const Tensor& dqkv, const Tensor& cos_sin, int heads,
                           int kv_heads, int head_dim) {
    rotate(threads_, dqkv, cos_sin, heads, kv_heads, head_dim, -1.0f);
}

}  // namespace trireme
