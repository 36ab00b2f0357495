#include "core/ops.h"

namespace trireme {

void Ops::linear_gelu_forward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                              const Tensor& pre, const Tensor& y) {
    linear_forward(stream, x, w, bias, pre);
    gelu_forward(stream, pre, y);
}

void Ops::linear_gelu_backward_input(Stream& stream, const Tensor& dy, const Tensor& w,
                                     const Tensor& pre, const Tensor& dx) {
    linear_backward_input(stream, dy, w, dx);
    gelu_backward(stream, dx, pre, dx);
}

void Ops::linear_backward_weight_bias(Stream& stream, const Tensor& dy, const Tensor& x,
                                      const Tensor& dw, const Tensor& db) {
    linear_backward_weight(stream, dy, x, dw);
    bias_backward(stream, dy, db);
}

}  // namespace trireme
