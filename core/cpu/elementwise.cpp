#include <cmath>
#include <cstring>

#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

constexpr int64_t kGrainBytes = kElementGrain * 4;

template <typename From, typename To>
void convert_range(const From* from, To* to, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(to, i, load(from, i));
}

template <typename From, typename To>
void add_range(const From* x, To* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y, i, load(y, i) + load(x, i));
}

double sum_range(const float* x, int64_t n) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]);
    return sum;
}

double square_sum_range(const float* x, int64_t n) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return sum;
}

// total += the sum over pieces of x. Where the pieces lie depends on the size alone, so the result
// does not depend on the number of threads.
template <typename SumRange>
void add_total(int threads, const Tensor& x, const Tensor& total, const SumRange& sum_range_of) {
    check_add_total(x, total);
    constexpr int64_t kMostPieces = 256;
    const int64_t n = x.elements();
    if (n == 0) return;
    const int64_t pieces = std::min(kMostPieces, (n + kElementGrain - 1) / kElementGrain);
    double sums[kMostPieces];
    double* to = sums;
    const float* from = x.as<float>();
    parallel_ranges(threads, pieces, 1, [=, &sum_range_of](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t first = n * i / pieces;
            to[i] = sum_range_of(from + first, n * (i + 1) / pieces - first);
        }
    });
    double sum = 0.0;
    for (int64_t i = 0; i < pieces; ++i) sum += sums[i];
    *total.as<double>() += sum;
}

}  // namespace

void CpuOps::fill_zero(Stream&, const Tensor& x) {
    char* to = static_cast<char*>(x.data);
    parallel_ranges(threads_, static_cast<int64_t>(x.bytes()), kGrainBytes,
                    [=](int64_t begin, int64_t end) {
                        std::memset(to + begin, 0, static_cast<size_t>(end - begin));
                    });
}

void CpuOps::copy(Stream&, const Tensor& from, const Tensor& to) {
    check_copy(from, to);
    if (from.dtype == to.dtype) {
        const char* source = static_cast<const char*>(from.data);
        char* target = static_cast<char*>(to.data);
        parallel_ranges(threads_, static_cast<int64_t>(to.bytes()), kGrainBytes,
                        [=](int64_t begin, int64_t end) {
                            std::memcpy(target + begin, source + begin,
                                        static_cast<size_t>(end - begin));
                        });
        return;
    }
    with_activation_type(from.dtype, [&]<typename From>() {
        with_activation_type(to.dtype, [&]<typename To>() {
            const From* source = from.as<From>();
            To* target = to.as<To>();
            parallel_ranges(threads_, to.elements(), kElementGrain,
                            [=](int64_t begin, int64_t end) {
                                convert_range(source + begin, target + begin, end - begin);
                            });
        });
    });
}

void CpuOps::add(Stream&, const Tensor& x, const Tensor& y) {
    check_add(x, y);
    with_activation_type(x.dtype, [&]<typename From>() {
        with_activation_type(y.dtype, [&]<typename To>() {
            const From* source = x.as<From>();
            To* target = y.as<To>();
            parallel_ranges(threads_, y.elements(), kElementGrain, [=](int64_t begin, int64_t end) {
                add_range(source + begin, target + begin, end - begin);
            });
        });
    });
}

void CpuOps::add_sum(Stream&, const Tensor& x, const Tensor& total) {
    add_total(threads_, x, total, sum_range);
}

void CpuOps::add_squared_norm(Stream&, const Tensor& x, const Tensor& total) {
    add_total(threads_, x, total, square_sum_range);
}

void CpuOps::clip_scale(Stream&, const Tensor& squared_norm, float max_norm, const Tensor& scale) {
    check_clip_scale(squared_norm, scale);
    const double ratio = static_cast<double>(max_norm) / std::sqrt(*squared_norm.as<double>());
    // A NaN norm gives a NaN scale: it must not pass for "no clipping".
    const bool unclipped = max_norm <= 0.0f || ratio >= 1.0;
    *scale.as<float>() = unclipped ? 1.0f : static_cast<float>(ratio);
}

}  // namespace trireme
