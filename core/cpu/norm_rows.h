#pragma once

#include <algorithm>
#include <cmath>

#include "core/cpu/kernel_support.h"
#include "core/residual_norm_checks.h"

// The forward of the norms, row by row.

namespace trireme {

template <typename T>
float row_mean(const T* x, int64_t cols) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < cols; ++c) sum += load(x, c);
    return sum / static_cast<float>(cols);
}

struct RowMoments {
    float mean;
    float variance;
};

// The row is in cache after its mean, so a pass of its own for the variance costs little and loses
// nothing to cancellation. The same pass finds the rounding error of the mean.
template <typename T>
RowMoments row_moments(const T* x, int64_t cols) {
    const float center = row_mean(x, cols);
    float sum = 0.0f;
    float squares = 0.0f;
#pragma omp simd reduction(+ : sum, squares)
    for (int64_t c = 0; c < cols; ++c) {
        const float d = load(x, c) - center;
        sum += d;
        squares += d * d;
    }
    const float n = static_cast<float>(cols);
    const float shift = sum / n;
    return {center + shift, std::max(squares / n - shift * shift, 0.0f)};
}

template <typename T>
float row_mean_square(const T* x, int64_t cols) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < cols; ++c) sum += load(x, c) * load(x, c);
    return sum / static_cast<float>(cols);
}

template <typename T>
void layer_norm_row(const T* x, const T* weight, const T* bias, float mean, float rstd, T* y,
                    int64_t cols) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) {
        store(y, c, (load(x, c) - mean) * rstd * load(weight, c) + load(bias, c));
    }
}

template <typename T>
void rms_norm_row(const T* x, const T* weight, float rstd, T* y, int64_t cols) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) store(y, c, load(x, c) * rstd * load(weight, c));
}

// What a norm's forward reads but for its input, and writes.
template <typename T>
struct LayerNormRows {
    const T* weight;
    const T* bias;
    float eps;
    T* y;
    float* means;
    float* rstds;
    int64_t cols;

    // x: row n of the input.
    void make(const T* x, int64_t n) const {
        const RowMoments moments = row_moments(x, cols);
        const float r = 1.0f / std::sqrt(moments.variance + eps);
        layer_norm_row(x, weight, bias, moments.mean, r, y + n * cols, cols);
        means[n] = moments.mean;
        rstds[n] = r;
    }
};

template <typename T>
struct RmsNormRows {
    const T* weight;
    float eps;
    T* y;
    float* rstds;
    int64_t cols;

    void make(const T* x, int64_t n) const {
        const float r = 1.0f / std::sqrt(row_mean_square(x, cols) + eps);
        rms_norm_row(x, weight, r, y + n * cols, cols);
        rstds[n] = r;
    }
};

// Checks the sizes for an input x and calls body.template operator()<T>(rows to make).
template <typename Body>
void with_layer_norm_rows(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                          const Tensor& y, const Tensor& mean, const Tensor& rstd,
                          const Body& body) {
    check_layer_norm(x, weight, bias, y, mean, rstd);
    with_activation_type(x.dtype, [&]<typename T>() {
        body.template operator()<T>(LayerNormRows<T>{weight.as<T>(), bias.as<T>(), eps, y.as<T>(),
                                                     mean.as<float>(), rstd.as<float>(), x.cols()});
    });
}

template <typename Body>
void with_rms_norm_rows(const Tensor& x, const Tensor& weight, float eps, const Tensor& y,
                        const Tensor& rstd, const Body& body) {
    check_rms_norm(x, weight, y, rstd);
    with_activation_type(x.dtype, [&]<typename T>() {
        body.template operator()<T>(
            RmsNormRows<T>{weight.as<T>(), eps, y.as<T>(), rstd.as<float>(), x.cols()});
    });
}

}  // namespace trireme
