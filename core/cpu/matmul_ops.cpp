#include <algorithm>
#include <array>

#include "core/cpu/cpu_ops.h"
#include "core/cpu/matmul.h"
#include "core/cpu/parallel_for.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

// Columns lo to lo + width of db += the sum of dy's rows. Rows are summed in blocks, so that the
// rounding error grows with the number of blocks, and in an order that no thread count changes.
template <typename T>
void sum_columns(const T* dy, int64_t rows, int64_t cols, int64_t lo, int64_t width, float* db) {
    constexpr int64_t kBlockRows = 64;
    constexpr size_t kStrip = 64;
    for (int64_t strip = 0; strip < width; strip += static_cast<int64_t>(kStrip)) {
        const int64_t n = std::min(width - strip, static_cast<int64_t>(kStrip));
        std::array<float, kStrip> total{};
        for (int64_t block = 0; block < rows; block += kBlockRows) {
            std::array<float, kStrip> partial{};
            const int64_t end = std::min(rows, block + kBlockRows);
            for (int64_t r = block; r < end; ++r) {
                const T* row = dy + r * cols + lo + strip;
#pragma omp simd
                for (int64_t j = 0; j < n; ++j) partial[static_cast<size_t>(j)] += row[j];
            }
            for (size_t j = 0; j < kStrip; ++j) total[j] += partial[j];
        }
        for (int64_t j = 0; j < n; ++j) db[lo + strip + j] += total[static_cast<size_t>(j)];
    }
}

}  // namespace

void CpuOps::linear_forward(Stream&, const Tensor& x, const Tensor& w, const Tensor& bias,
                            const Tensor& y) {
    check_linear_forward(x, w, y);
    MatmulCall call;
    call.m = x.rows(), call.n = w.rows(), call.k = x.cols();
    call.b_transposed = true;
    call.a = x, call.b = w, call.bias = bias, call.c = y;
    matmul_->multiply(call);
}

void CpuOps::linear_backward_input(Stream&, const Tensor& dy, const Tensor& w, const Tensor& dx) {
    check_linear_backward_input(dy, w, dx);
    MatmulCall call;
    call.m = dy.rows(), call.n = w.cols(), call.k = dy.cols();
    call.a = dy, call.b = w, call.c = dx;
    matmul_->multiply(call);
}

void CpuOps::linear_backward_weight(Stream&, const Tensor& dy, const Tensor& x, const Tensor& dw) {
    check_linear_backward_weight(dy, x, dw);
    if (dy.rows() == 0) return;
    MatmulCall call;
    call.m = dy.cols(), call.n = x.cols(), call.k = dy.rows();
    call.a_transposed = true;
    call.accumulate = true;
    call.a = dy, call.b = x, call.c = dw;
    matmul_->multiply(call);
}

void CpuOps::bias_backward(Stream&, const Tensor& dy, const Tensor& db) {
    check_bias_backward(dy, db);
    const int64_t rows = dy.rows();
    const int64_t cols = dy.cols();
    float* sums = db.as<float>();
    const auto run = [&](const auto* data) {
        const int64_t grain = std::max<int64_t>(64, (1 << 14) / std::max<int64_t>(rows, 1));
        parallel_ranges(threads_, cols, grain, [=](int64_t begin, int64_t end) {
            sum_columns(data, rows, cols, begin, end - begin, sums);
        });
    };
    if (dy.dtype == DType::bf16) {
        run(dy.as<bf16>());
    } else {
        run(dy.as<float>());
    }
}

}  // namespace trireme
