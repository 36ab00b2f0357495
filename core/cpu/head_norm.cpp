#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/head_norm_shape.h"

namespace trireme {

namespace {

template <typename T>
float head_rstd(const T* x, int64_t n, float eps) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += load(x, i) * load(x, i);
    return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

// dy becomes the gradient of x; the gradient of the weight is added to dweight.
template <typename T>
void head_backward(const T* x, const T* weight, float eps, int64_t n, T* dy, float* dweight) {
    const float rstd = head_rstd(x, n, eps);
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += load(dy, i) * load(weight, i) * (load(x, i) * rstd);
    const float mean = sum / static_cast<float>(n);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        const float gradient = load(dy, i);
        const float normalized = load(x, i) * rstd;
        dweight[i] += gradient * normalized;
        store(dy, i, rstd * (gradient * load(weight, i) - normalized * mean));
    }
}

}  // namespace

void CpuOps::head_norm_forward(Stream&, const Tensor& qkv, const Tensor& query_weight,
                               const Tensor& key_weight, float eps, int heads, int kv_heads,
                               const Tensor& out) {
    const auto s = HeadNormShape::of(qkv, query_weight, key_weight, heads, kv_heads, out);
    with_activation_type(qkv.dtype, [&]<typename T>() {
        const T* in = qkv.as<T>();
        const T* weights[2] = {query_weight.as<T>(), key_weight.as<T>()};
        T* to = out.as<T>();
        parallel_ranges(threads_, s.rows, row_grain(s.cols), [=](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                for (int64_t h = 0; h < s.normed_heads; ++h) {
                    const T* x = in + row * s.cols + h * s.head_dim;
                    T* y = to + row * s.cols + h * s.head_dim;
                    const T* weight = weights[h < s.heads ? 0 : 1];
                    const float rstd = head_rstd(x, s.head_dim, eps);
#pragma omp simd
                    for (int64_t i = 0; i < s.head_dim; ++i) {
                        store(y, i, load(x, i) * rstd * load(weight, i));
                    }
                }
                const int64_t normed = s.normed_heads * s.head_dim;
                std::memcpy(to + row * s.cols + normed, in + row * s.cols + normed,
                            static_cast<size_t>(s.cols - normed) * sizeof(T));
            }
        });
    });
}

// The weights' gradients are kept for each of a number of row pieces that depends on the shape
// alone, and added up in order, so the result does not depend on the number of threads.
void CpuOps::head_norm_backward(Stream&, const Tensor& qkv, const Tensor& query_weight,
                                const Tensor& key_weight, float eps, int heads, int kv_heads,
                                const Tensor& dqkv, const Tensor& dquery_weight,
                                const Tensor& dkey_weight) {
    const auto s = HeadNormShape::of(qkv, query_weight, key_weight, heads, kv_heads, dqkv);
    s.check_weight_gradients(dquery_weight, dkey_weight);
    if (s.rows == 0) return;
    constexpr int64_t kMostPieces = 64;
    const int64_t pieces = std::clamp<int64_t>(s.rows / (2 * row_grain(s.cols)), 1, kMostPieces);
    const int64_t stride = 2 * s.head_dim;
    const size_t needed = static_cast<size_t>(pieces * stride);
    if (scratch_.size() < needed) scratch_.resize(needed);
    float* partials = scratch_.data();
    with_activation_type(qkv.dtype, [&]<typename T>() {
        const T* in = qkv.as<T>();
        const T* weights[2] = {query_weight.as<T>(), key_weight.as<T>()};
        T* gradient = dqkv.as<T>();
        parallel_ranges(threads_, pieces, 1, [=](int64_t begin, int64_t end) {
            for (int64_t piece = begin; piece < end; ++piece) {
                float* sums = partials + piece * stride;
                std::fill(sums, sums + stride, 0.0f);
                for (int64_t row = s.rows * piece / pieces; row < s.rows * (piece + 1) / pieces;
                     ++row) {
                    for (int64_t h = 0; h < s.normed_heads; ++h) {
                        const int64_t at = row * s.cols + h * s.head_dim;
                        const int which = h < s.heads ? 0 : 1;
                        head_backward(in + at, weights[which], eps, s.head_dim, gradient + at,
                                      sums + which * s.head_dim);
                    }
                }
            }
        });
    });
    for (int64_t piece = 0; piece < pieces; ++piece) {
        const float* sums = partials + piece * stride;
        for (int64_t i = 0; i < s.head_dim; ++i) {
            dquery_weight.as<float>()[i] += sums[i];
            dkey_weight.as<float>()[i] += sums[s.head_dim + i];
        }
    }
}

}  // namespace trireme
