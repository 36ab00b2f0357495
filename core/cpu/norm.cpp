#include <algorithm>
#include <vector>

#include "core/cpu/cpu_ops.h"
#include "core/cpu/norm_rows.h"
#include "core/residual_norm_checks.h"

namespace trireme {

namespace {

template <template <typename> typename Rows, typename T>
void normalise(int threads, const Tensor& x, const Rows<T>& rows) {
    const T* in = x.as<T>();
    const int64_t cols = x.cols();
    parallel_ranges(threads, x.rows(), row_grain(cols), [=](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) rows.make(in + n * cols, n);
    });
}

struct GradientMeans {
    float g;       // of g = dy * weight
    float g_norm;  // of g * normalized x
};

template <typename T>
GradientMeans gradient_means(const T* dy, const T* x, const T* weight, float mean, float rstd,
                             int64_t cols) {
    float sum_g = 0.0f;
    float sum_g_norm = 0.0f;
#pragma omp simd reduction(+ : sum_g, sum_g_norm)
    for (int64_t c = 0; c < cols; ++c) {
        const float g = load(dy, c) * load(weight, c);
        sum_g += g;
        sum_g_norm += g * ((load(x, c) - mean) * rstd);
    }
    const float n = static_cast<float>(cols);
    return {sum_g / n, sum_g_norm / n};
}

// kCentered: layer norm. Otherwise RMS norm: no mean, no bias.
template <bool kCentered, typename T>
void backward_row(const T* dy, const T* x, const T* weight, float mean, float rstd, T* dx,
                  float* dweight, float* dbias, int64_t cols) {
    const GradientMeans means = gradient_means(dy, x, weight, mean, rstd, cols);
    const float mean_g = kCentered ? means.g : 0.0f;
    const float mean_g_norm = means.g_norm;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) {
        const float gradient = load(dy, c);
        const float normalized = (load(x, c) - mean) * rstd;
        const float g = gradient * load(weight, c);
        store(dx, c, load(dx, c) + rstd * (g - mean_g - normalized * mean_g_norm));
        dweight[c] += gradient * normalized;
        if constexpr (kCentered) dbias[c] += gradient;
    }
}

void add_partials(const float* partials, int64_t pieces, int64_t stride, float* sum, int64_t n) {
    for (int64_t i = 0; i < pieces; ++i) {
        const float* from = partials + i * stride;
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) sum[c] += from[c];
    }
}

// Sums of the parameter gradients are kept for each of a number of row pieces that depends on the
// shape alone, and added up in order, so the result does not depend on the number of threads.
template <bool kCentered>
void norm_backward(int threads, const Tensor& dy, const Tensor& x, const Tensor& weight,
                   const Tensor& mean, const Tensor& rstd, const Tensor& dx, const Tensor& dweight,
                   const Tensor& dbias, std::vector<float>& scratch) {
    const int64_t rows = x.rows();
    const int64_t cols = x.cols();
    if (rows == 0) return;
    constexpr int64_t kMostPieces = 64;
    const int64_t pieces = std::clamp<int64_t>(rows / (2 * row_grain(cols)), 1, kMostPieces);
    const int64_t stride = (kCentered ? 2 : 1) * cols;
    const size_t needed = static_cast<size_t>(pieces * stride);
    if (scratch.size() < needed) scratch.resize(needed);
    float* partials = scratch.data();
    with_activation_type(x.dtype, [&]<typename T>() {
        const T* gradient = dy.as<T>();
        const T* in = x.as<T>();
        const T* w = weight.as<T>();
        const float* means = kCentered ? mean.as<float>() : nullptr;
        const float* rstds = rstd.as<float>();
        T* out = dx.as<T>();
        parallel_ranges(threads, pieces, 1, [=](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                float* dw = partials + i * stride;
                std::fill(dw, dw + stride, 0.0f);
                for (int64_t n = rows * i / pieces; n < rows * (i + 1) / pieces; ++n) {
                    const int64_t at = n * cols;
                    backward_row<kCentered>(gradient + at, in + at, w, kCentered ? means[n] : 0.0f,
                                            rstds[n], out + at, dw, dw + (stride - cols), cols);
                }
            }
        });
    });
    add_partials(partials, pieces, stride, dweight.as<float>(), cols);
    if (kCentered) add_partials(partials + cols, pieces, stride, dbias.as<float>(), cols);
}

}  // namespace

void CpuOps::layer_norm_forward(Stream&, const Tensor& x, const Tensor& weight, const Tensor& bias,
                                float eps, const Tensor& y, const Tensor& mean,
                                const Tensor& rstd) {
    with_layer_norm_rows(
        x, weight, bias, eps, y, mean, rstd,
        [&]<typename T>(const LayerNormRows<T>& rows) { normalise(threads_, x, rows); });
}

void CpuOps::layer_norm_backward(Stream&, const Tensor& dy, const Tensor& x, const Tensor& weight,
                                 const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                                 const Tensor& dweight, const Tensor& dbias) {
    check_layer_norm_backward(dy, x, weight, mean, rstd, dx, dweight, dbias);
    norm_backward<true>(threads_, dy, x, weight, mean, rstd, dx, dweight, dbias, scratch_);
}

void CpuOps::rms_norm_forward(Stream&, const Tensor& x, const Tensor& weight, float eps,
                              const Tensor& y, const Tensor& rstd) {
    with_rms_norm_rows(x, weight, eps, y, rstd, [&]<typename T>(const RmsNormRows<T>& rows) {
        normalise(threads_, x, rows);
    });
}

void CpuOps::rms_norm_backward(Stream&, const Tensor& dy, const Tensor& x, const Tensor& weight,
                               const Tensor& rstd, const Tensor& dx, const Tensor& dweight) {
    check_rms_norm_backward(dy, x, weight, rstd, dx, dweight);
    norm_backward<false>(threads_, dy, x, weight, Tensor(), rstd, dx, dweight, Tensor(), scratch_);
}

}  // namespace trireme
