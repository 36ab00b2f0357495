#include "core/cpu/cpu_ops.h"
#include "core/cpu/residual_rows.h"
#include "core/residual_norm_checks.h"

namespace trireme {

namespace {

template <typename T>
void scale_range(const T* x, const float* factor, T* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y, i, factor[i] * load(x, i));
}

}  // namespace

void CpuOps::residual_add_forward(Stream&, const ResidualAdd& add) {
    check_residual_add(add);
    with_activation_type(add.y.dtype, [&]<typename T>() {
        const ResidualRows<T> rows = residual_rows<T>(add);
        if (!add.bias) {
            parallel_ranges(threads_, add.y.elements(), rows.grain(),
                            [=](int64_t begin, int64_t end) { rows.add(begin, end); });
            return;
        }
        parallel_ranges(threads_, add.y.rows(), rows.grain_of_rows(),
                        [=](int64_t begin, int64_t end) {
                            for (int64_t n = begin; n < end; ++n) rows.make(n);
                        });
    });
}

void CpuOps::dropout_apply(Stream& stream, const Tensor& dout, const Dropout& dropout,
                           const Tensor& dy) {
    check_dropout_apply(dout, dropout, dy);
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
