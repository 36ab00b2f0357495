#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/formulas.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

// The formulas cost some 20 operations an element, so smaller pieces are worth a thread.
constexpr int64_t kGrain = kElementGrain / 4;

template <typename T>
void gelu_range(const T* x, T* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y, i, gelu(load(x, i)));
}

template <typename T>
void gelu_backward_range(const T* dy, const T* x, T* dx, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(dx, i, load(dy, i) * gelu_derivative(load(x, i)));
}

template <typename T>
void swiglu_row(const T* gate, const T* up, T* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y, i, swiglu(load(gate, i), load(up, i)));
}

template <typename T>
void swiglu_backward_row(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        const SwigluGradient g = swiglu_gradient(load(dy, i), load(gate, i), load(up, i));
        store(dgate, i, g.gate);
        store(dup, i, g.up);
    }
}

}  // namespace

void CpuOps::gelu_forward(Stream&, const Tensor& x, const Tensor& y) {
    check_gelu_forward(x, y);
    with_activation_type(x.dtype, [&]<typename T>() {
        const T* in = x.as<T>();
        T* out = y.as<T>();
        parallel_ranges(threads_, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
            gelu_range(in + begin, out + begin, end - begin);
        });
    });
}

void CpuOps::gelu_backward(Stream&, const Tensor& dy, const Tensor& x, const Tensor& dx) {
    check_gelu_backward(dy, x, dx);
    with_activation_type(x.dtype, [&]<typename T>() {
        const T* gradient = dy.as<T>();
        const T* in = x.as<T>();
        T* out = dx.as<T>();
        parallel_ranges(threads_, x.elements(), kGrain, [=](int64_t begin, int64_t end) {
            gelu_backward_range(gradient + begin, in + begin, out + begin, end - begin);
        });
    });
}

void CpuOps::swiglu_forward(Stream&, const Tensor& gate_up, const Tensor& y) {
    check_swiglu_forward(gate_up, y);
    const int64_t f = y.cols();
    with_activation_type(y.dtype, [&]<typename T>() {
        const T* in = gate_up.as<T>();
        T* out = y.as<T>();
        parallel_ranges(threads_, y.rows(), row_grain(4 * f), [=](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; ++n) {
                const T* row = in + n * 2 * f;
                swiglu_row(row, row + f, out + n * f, f);
            }
        });
    });
}

void CpuOps::swiglu_backward(Stream&, const Tensor& dy, const Tensor& gate_up,
                             const Tensor& dgate_up) {
    check_swiglu_backward(dy, gate_up, dgate_up);
    const int64_t f = dy.cols();
    with_activation_type(dy.dtype, [&]<typename T>() {
        const T* gradient = dy.as<T>();
        const T* in = gate_up.as<T>();
        T* out = dgate_up.as<T>();
        parallel_ranges(threads_, dy.rows(), row_grain(4 * f), [=](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; ++n) {
                const T* row = in + n * 2 * f;
                T* out_row = out + n * 2 * f;
                swiglu_backward_row(gradient + n * f, row, row + f, out_row, out_row + f, f);
            }
        });
    });
}

}  // namespace trireme
