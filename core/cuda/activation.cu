#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/formulas.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

template <typename T, int n>
__device__ void gelu_elements(const T* x, T* y, int64_t first) {
    Floats<n> values = load_floats<n>(x + first);
#pragma unroll
    for (int k = 0; k < n; ++k) values[k] = gelu(values[k]);
    store_floats<n>(y + first, values);
}

// In packs of n elements, and one by one what is left of them.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    gelu_forward_kernel(const T* x, T* y, int64_t elements) {
    const int64_t packs = elements / n;
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        gelu_elements<T, n>(x, y, i * n);
    }
    const int64_t rest = packs * n + grid_first();
    if (rest < elements) gelu_elements<T, 1>(x, y, rest);
}

template <typename T, int n>
__device__ void gelu_backward_elements(const T* dy, const T* x, T* dx, int64_t first) {
    Floats<n> gradient = load_floats<n>(dy + first);
    const Floats<n> values = load_floats<n>(x + first);
#pragma unroll
    for (int k = 0; k < n; ++k) gradient[k] *= gelu_derivative(values[k]);
    store_floats<n>(dx + first, gradient);
}

template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    gelu_backward_kernel(const T* dy, const T* x, T* dx, int64_t elements) {
    const int64_t packs = elements / n;
    for (int64_t i = grid_first(); i < packs; i += grid_stride()) {
        gelu_backward_elements<T, n>(dy, x, dx, i * n);
    }
    const int64_t rest = packs * n + grid_first();
    if (rest < elements) gelu_backward_elements<T, 1>(dy, x, dx, rest);
}

template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    swiglu_forward_kernel(const T* gate_up, T* y, int64_t rows, int64_t f) {
    const int64_t col = pack_of_row() * n;
    if (col >= f) return;
    for (int64_t row = first_row_of_thread(); row < rows; row += row_stride()) {
        const T* in = gate_up + row * 2 * f + col;
        Floats<n> gate = load_floats<n>(in);
        const Floats<n> up = load_floats<n>(in + f);
#pragma unroll
        for (int k = 0; k < n; ++k) gate[k] = swiglu(gate[k], up[k]);
        store_floats<n>(y + row * f + col, gate);
    }
}

// dgate_up may be gate_up: a thread has read both elements of a pair before it writes them.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    swiglu_backward_kernel(const T* dy, const T* gate_up, T* dgate_up, int64_t rows, int64_t f) {
    const int64_t col = pack_of_row() * n;
    if (col >= f) return;
    for (int64_t row = first_row_of_thread(); row < rows; row += row_stride()) {
        const int64_t at = row * 2 * f + col;
        const Floats<n> gradient = load_floats<n>(dy + row * f + col);
        Floats<n> gate = load_floats<n>(gate_up + at);
        Floats<n> up = load_floats<n>(gate_up + at + f);
#pragma unroll
        for (int k = 0; k < n; ++k) {
            const SwigluGradient g = swiglu_gradient(gradient[k], gate[k], up[k]);
            gate[k] = g.gate;
            up[k] = g.up;
        }
        store_floats<n>(dgate_up + at, gate);
        store_floats<n>(dgate_up + at + f, up);
    }
}

}  // namespace

void CudaOps::gelu_forward(Stream& stream, const Tensor& x, const Tensor& y) {
    check_gelu_forward(x, y);
    const int64_t elements = x.elements();
    if (elements == 0) return;
    with_packs(x.dtype, 0, {x.data, y.data}, [&]<typename T, int n>() {
        launch(gelu_forward_kernel<T, n>, element_grid((elements + n - 1) / n), handle_of(stream),
               x.as<T>(), y.as<T>(), elements);
    });
}

void CudaOps::gelu_backward(Stream& stream, const Tensor& dy, const Tensor& x, const Tensor& dx) {
    check_gelu_backward(dy, x, dx);
    const int64_t elements = x.elements();
    if (elements == 0) return;
    with_packs(x.dtype, 0, {dy.data, x.data, dx.data}, [&]<typename T, int n>() {
        launch(gelu_backward_kernel<T, n>, element_grid((elements + n - 1) / n), handle_of(stream),
               dy.as<T>(), x.as<T>(), dx.as<T>(), elements);
    });
}

void CudaOps::swiglu_forward(Stream& stream, const Tensor& gate_up, const Tensor& y) {
    check_swiglu_forward(gate_up, y);
    const int64_t rows = y.rows();
    const int64_t f = y.cols();
    with_packs(y.dtype, f, {gate_up.data, y.data}, [&]<typename T, int n>() {
        launch(swiglu_forward_kernel<T, n>, row_grid(rows, f / n), handle_of(stream),
               gate_up.as<T>(), y.as<T>(), rows, f);
    });
}

void CudaOps::swiglu_backward(Stream& stream, const Tensor& dy, const Tensor& gate_up,
                              const Tensor& dgate_up) {
    check_swiglu_backward(dy, gate_up, dgate_up);
    const int64_t rows = dy.rows();
    const int64_t f = dy.cols();
    with_packs(dy.dtype, f, {dy.data, gate_up.data, dgate_up.data}, [&]<typename T, int n>() {
        launch(swiglu_backward_kernel<T, n>, row_grid(rows, f / n), handle_of(stream), dy.as<T>(),
               gate_up.as<T>(), dgate_up.as<T>(), rows, f);
    });
}

}  // namespace trireme
