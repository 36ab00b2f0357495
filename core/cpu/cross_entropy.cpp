#include <cmath>
#include <cstring>
#include <limits>

#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/formulas.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

// Maximum of a row, -infinity of an empty one. Kept in lanes because a plain maximum of floats is
// not reordered by the compiler. A NaN is passed over here and comes out of the exponentials.
float row_maximum(const float* x, int64_t n) {
    constexpr int64_t kLanes = 16;
    float lane[kLanes];
    std::fill(lane, lane + kLanes, -std::numeric_limits<float>::infinity());
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
        for (int64_t j = 0; j < kLanes; ++j) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    }
    for (; i < n; ++i) lane[0] = std::max(lane[0], x[i]);
    return *std::max_element(lane, lane + kLanes);
}

float exp_block(float* x, float maximum, int64_t n) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
        const float e = fast_exp(x[i] - maximum);
        x[i] = e;
        sum += e;
    }
    return sum;
}

// Exponentials in place, and their sum: f32 within blocks, f64 over them, so that a long row loses
// nothing.
float exp_row(float* x, float maximum, int64_t n) {
    constexpr int64_t kBlock = 1024;
    double sum = 0.0;
    for (int64_t i = 0; i < n; i += kBlock) {
        sum += static_cast<double>(exp_block(x + i, maximum, std::min(kBlock, n - i)));
    }
    return static_cast<float>(sum);
}

template <typename T>
void scale_row(const float* x, float factor, T* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y, i, x[i] * factor);
}

template <typename T>
void zero_row(T* y, int64_t n) {
    std::memset(static_cast<void*>(y), 0, static_cast<size_t>(n) * sizeof(T));
}

// Column of a label in this rank's part, or -1; first_row >= 0, so a negative label gives -1.
int64_t local_column(int32_t label, int64_t first_row, int64_t valid_cols) {
    const int64_t column = label - first_row;
    return column >= 0 && column < valid_cols ? column : -1;
}

}  // namespace

void CpuOps::cross_entropy_max(Stream&, const Tensor& logits, int64_t valid_cols,
                               const Tensor& row_max) {
    check_cross_entropy_max(logits, valid_cols, row_max);
    const int64_t rows = logits.rows();
    const int64_t cols = logits.cols();
    const float* x = logits.as<float>();
    float* maxima = row_max.as<float>();
    parallel_ranges(threads_, rows, row_grain(cols), [=](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) maxima[n] = row_maximum(x + n * cols, valid_cols);
    });
}

void CpuOps::cross_entropy_exp(Stream&, const Tensor& logits, int64_t valid_cols,
                               const Tensor& row_max, const Tensor& labels, int64_t first_row,
                               const Tensor& sums) {
    check_cross_entropy_exp(logits, valid_cols, row_max, labels, first_row, sums);
    const int64_t rows = logits.rows();
    const int64_t cols = logits.cols();
    float* x = logits.as<float>();
    const float* maxima = row_max.as<float>();
    const int32_t* label = labels.as<int32_t>();
    float* exp_sums = sums.as<float>();
    float* label_logits = exp_sums + rows;
    parallel_ranges(threads_, rows, row_grain(4 * cols), [=](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
            float* row = x + n * cols;
            const int64_t at = local_column(label[n], first_row, valid_cols);
            label_logits[n] = at < 0 ? 0.0f : row[at] - maxima[n];
            exp_sums[n] = exp_row(row, maxima[n], valid_cols);
            zero_row(row + valid_cols, cols - valid_cols);
        }
    });
}

void CpuOps::cross_entropy_finish(Stream&, const Tensor& exp_logits, int64_t valid_cols,
                                  const Tensor& labels, int64_t first_row, const Tensor& sums,
                                  float scale, const Tensor& losses, const Tensor& dlogits) {
    check_cross_entropy_finish(exp_logits, valid_cols, labels, first_row, sums, losses, dlogits);
    const int64_t rows = exp_logits.rows();
    const int64_t cols = exp_logits.cols();
    const int32_t* label = labels.as<int32_t>();
    const float* exp_sums = sums.as<float>();
    const float* label_logits = exp_sums + rows;
    float* loss = losses.as<float>();
    for (int64_t n = 0; n < rows; ++n) {
        const double log_sum = std::log(static_cast<double>(exp_sums[n]));
        loss[n] = label[n] < 0 ? 0.0f : static_cast<float>(log_sum - label_logits[n]);
    }
    if (!dlogits) return;
    with_activation_type(dlogits.dtype, [&]<typename T>() {
        const float* x = exp_logits.as<float>();
        T* out = dlogits.as<T>();
        parallel_ranges(threads_, rows, row_grain(cols), [=](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; ++n) {
                const float* row = x + n * cols;
                T* gradient = out + n * cols;
                if (label[n] < 0) {
                    zero_row(gradient, cols);
                    continue;
                }
                const int64_t at = local_column(label[n], first_row, valid_cols);
                const float at_label = at < 0 ? 0.0f : (row[at] / exp_sums[n] - 1.0f) * scale;
                scale_row(row, scale / exp_sums[n], gradient, valid_cols);
                zero_row(gradient + valid_cols, cols - valid_cols);
                if (at >= 0) store(gradient, at, at_label);
            }
        });
    });
}

}  // namespace trireme
