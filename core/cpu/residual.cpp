#include "core/cpu/cpu_ops.h"
#include "core/cpu/dropout_mask.h"
#include "core/cpu/kernel_support.h"

namespace trireme {

namespace {

// Philox costs about as much as 20 element operations.
constexpr int64_t kDropoutGrain = kElementGrain / 8;

void check_probability(const Dropout& dropout) {
    TRIREME_CHECK(dropout.probability >= 0.0f && dropout.probability < 1.0f,
                  "a dropout probability in [0, 1)");
}

template <typename T>
void add_range(const T* residual, const T* y, T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(out, i, load(residual, i) + load(y, i));
}

template <typename T>
void add_bias_range(const T* residual, const T* y, const T* bias, T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        store(out, i, load(residual, i) + (load(y, i) + load(bias, i)));
    }
}

template <typename T>
void add_dropped_range(const T* residual, const T* y, const float* factor, T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(out, i, load(residual, i) + factor[i] * load(y, i));
}

template <typename T>
void add_bias_dropped_range(const T* residual, const T* y, const T* bias, const float* factor,
                            T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        store(out, i, load(residual, i) + factor[i] * (load(y, i) + load(bias, i)));
    }
}

template <typename T>
void scale_range(const T* x, const float* factor, T* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y, i, factor[i] * load(x, i));
}

// Calls body(begin, count, factors) for tiles of the elements [begin, end).
template <typename Body>
void for_dropout_tiles(const Dropout& dropout, int64_t begin, int64_t end, const Body& body) {
    DropoutTile tile;
    for (int64_t i = begin; i < end; i += DropoutTile::kElements) {
        const int64_t count = std::min(DropoutTile::kElements, end - i);
        body(i, count,
             tile.make(dropout, dropout.first_element + static_cast<uint64_t>(i), count));
    }
}

}  // namespace

void CpuOps::residual_add_forward(Stream&, const Tensor& residual, const Tensor& y,
                                  const Tensor& bias, const Dropout& dropout, const Tensor& out) {
    TRIREME_CHECK(same_matrix(residual, y) && same_matrix(residual, out),
                  "residual, addend and sum of one size and type");
    TRIREME_CHECK(!bias || is_vector(bias, y.dtype, y.cols()),
                  "a bias of one row's size and type");
    check_probability(dropout);
    const int64_t cols = y.cols();
    const bool drops = dropout.probability > 0.0f;
    const int64_t grain = drops ? kDropoutGrain : kElementGrain;
    with_activation_type(y.dtype, [&]<typename T>() {
        const T* r = residual.as<T>();
        const T* in = y.as<T>();
        T* sum = out.as<T>();
        if (!bias) {
            parallel_ranges(threads_, y.elements(), grain, [=](int64_t begin, int64_t end) {
                if (!drops) return add_range(r + begin, in + begin, sum + begin, end - begin);
                for_dropout_tiles(dropout, begin, end, [=](int64_t i, int64_t n, const float* f) {
                    add_dropped_range(r + i, in + i, f, sum + i, n);
                });
            });
            return;
        }
        const T* b = bias.as<T>();
        const int64_t rows = std::max<int64_t>(1, grain / std::max<int64_t>(cols, 1));
        parallel_ranges(threads_, y.rows(), rows, [=](int64_t begin, int64_t end) {
            for (int64_t row = begin * cols; row < end * cols; row += cols) {
                if (!drops) {
                    add_bias_range(r + row, in + row, b, sum + row, cols);
                    continue;
                }
                for_dropout_tiles(dropout, row, row + cols,
                                  [=](int64_t i, int64_t n, const float* f) {
                    add_bias_dropped_range(r + i, in + i, b + (i - row), f, sum + i, n);
                });
            }
        });
    });
}

void CpuOps::dropout_apply(Stream& stream, const Tensor& dout, const Dropout& dropout,
                           const Tensor& dy) {
    TRIREME_CHECK(same_matrix(dout, dy), "dropout input and output of one size and type");
    check_probability(dropout);
    if (dropout.probability == 0.0f) {
        if (dout.data != dy.data) copy(stream, dout, dy);
        return;
    }
    with_activation_type(dy.dtype, [&]<typename T>() {
        const T* in = dout.as<T>();
        T* out = dy.as<T>();
        parallel_ranges(threads_, dy.elements(), kDropoutGrain, [=](int64_t begin, int64_t end) {
            for_dropout_tiles(dropout, begin, end, [=](int64_t i, int64_t n, const float* f) {
                scale_range(in + i, f, out + i, n);
            });
        });
    });
}

}  // namespace trireme
