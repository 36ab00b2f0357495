#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/residual_row.h"
#include "core/residual_norm_checks.h"

namespace trireme {

namespace {

// bias may be null. out may be residual or y: a thread reads only the elements that it writes.
template <typename T, int n, bool drops>
__global__ void __launch_bounds__(kBlockThreads)
    residual_add_kernel(const T* residual, const T* y, const T* bias, Mask mask, T* out,
                        int64_t rows, int64_t cols) {
    const int64_t col = pack_of_row() * n;
    if (col >= cols) return;
    Floats<n> of_bias{};
    if (bias) of_bias = load_floats<n>(bias + col);
    for (int64_t row = first_row_of_thread(); row < rows; row += row_stride()) {
        const int64_t at = row * cols + col;
        store_floats<n>(
            out + at, residual_sum<drops, n>(load_floats<n>(residual + at), load_floats<n>(y + at),
                                             of_bias, mask, at));
    }
}

template <typename T, int n>
__device__ void drop_elements(const T* from, const Mask& mask, T* to, int64_t first) {
    Floats<n> values = load_floats<n>(from + first);
    const Floats<n> factors = mask_factors<n>(mask, first);
#pragma unroll
    for (int k = 0; k < n; ++k) values[k] *= factors[k];
    store_floats<n>(to + first, values);
}

// In packs of n elements, and one by one what is left of them.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    dropout_kernel(const T* from, Mask mask, T* to, int64_t elements) {
    const int64_t packs = elements / n;
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        drop_elements<T, n>(from, mask, to, i * n);
    }
    const int64_t rest = packs * n + grid_first();
    if (rest < elements) drop_elements<T, 1>(from, mask, to, rest);
}

}  // namespace

void CudaOps::residual_add_forward(Stream& stream, const ResidualAdd& add) {
    check_residual_add(add);
    const Mask mask = make_mask(add.dropout);
    const int64_t rows = add.y.rows();
    const int64_t cols = add.y.cols();
    // An absent bias has a null address, which is aligned.
    with_packs(add.y.dtype, cols, {add.residual.data, add.y.data, add.bias.data, add.out.data},
               [&]<typename T, int n>() {
                   launch(add.dropout.probability > 0.0f ? residual_add_kernel<T, n, true>
                                                         : residual_add_kernel<T, n, false>,
                          row_grid(rows, cols / n), handle_of(stream), add.residual.as<T>(),
                          add.y.as<T>(), add.bias ? add.bias.as<T>() : nullptr, mask,
                          add.out.as<T>(), rows, cols);
               });
}

void CudaOps::dropout_apply(Stream& stream, const Tensor& dout, const Dropout& dropout,
                            const Tensor& dy) {
    check_dropout_apply(dout, dropout, dy);
    const Mask mask = make_mask(dropout);
    if (dropout.probability == 0.0f) {
        if (dout.data != dy.data) copy(stream, dout, dy);
        return;
    }
    const int64_t elements = dy.elements();
    if (elements == 0) return;
    with_packs(dy.dtype, 0, {dout.data, dy.data}, [&]<typename T, int n>() {
        launch(dropout_kernel<T, n>, element_grid((elements + n - 1) / n), handle_of(stream),
               dout.as<T>(), mask, dy.as<T>(), elements);
    });
}

}  // namespace trireme
