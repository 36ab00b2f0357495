#include "core/cpu/cpu_ops.h"
#include "core/cpu/norm_rows.h"
#include "core/cpu/residual_rows.h"
#include "core/residual_norm_checks.h"

namespace trireme {

namespace {

// A row of the sum is still in cache when its norm reads it.
template <template <typename> typename NormRows, typename T>
void add_and_normalise(int threads, const ResidualAdd& add, const NormRows<T>& norm) {
    const ResidualRows<T> sum = residual_rows<T>(add);
    parallel_ranges(threads, add.out.rows(), sum.grain_of_rows(), [=](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
            sum.make(n);
            norm.make(sum.out + n * sum.cols, n);
        }
    });
}

}  // namespace

void CpuOps::residual_add_layer_norm_forward(Stream&, const ResidualAdd& add, const Tensor& weight,
                                             const Tensor& bias, float eps, const Tensor& y,
                                             const Tensor& mean, const Tensor& rstd) {
    check_residual_add(add);
    with_layer_norm_rows(
        add.out, weight, bias, eps, y, mean, rstd,
        [&]<typename T>(const LayerNormRows<T>& rows) { add_and_normalise(threads_, add, rows); });
}

void CpuOps::residual_add_rms_norm_forward(Stream&, const ResidualAdd& add, const Tensor& weight,
                                           float eps, const Tensor& y, const Tensor& rstd) {
    check_residual_add(add);
    with_rms_norm_rows(add.out, weight, eps, y, rstd, [&]<typename T>(const RmsNormRows<T>& rows) {
        add_and_normalise(threads_, add, rows);
    });
}

}  // namespace trireme
