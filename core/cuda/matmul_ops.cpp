#include <cstdint>

#include "core/cuda/cuda_ops.h"
#include "core/cuda/matmul.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

CudaMatmulCall linear_call(const Tensor& x, const Tensor& w, const Tensor& y) {
    check_linear_forward(x, w, y);
    CudaMatmulCall call;
    call.a = x, call.b = w, call.output = y;
    call.transpose_b = true;
    return call;
}

CudaMatmulCall input_gradient_call(const Tensor& dy, const Tensor& w, const Tensor& dx) {
    check_linear_backward_input(dy, w, dx);
    CudaMatmulCall call;
    call.a = dy, call.b = w, call.output = dx;
    return call;
}

CudaMatmulCall weight_gradient_call(const Tensor& dy, const Tensor& x, const Tensor& dw) {
    check_linear_backward_weight(dy, x, dw);
    CudaMatmulCall call;
    call.a = dy, call.b = x, call.output = dw;
    call.transpose_a = true;
    call.accumulate = true;
    return call;
}

// cuBLASLt does not say how exact the GELU of its epilogues is; the hardware's tanh, which it may
// well take, is exact to 11 bits: more than bf16 holds. In f32, which is for exact comparisons and
// not for speed, the own kernels compute it.
bool takes_gelu_epilogue(const Tensor& x) {
    return x.dtype == DType::bf16;
}

// The bias as cuBLASLt takes it: in the output's type, and at a 16-byte address, as it is nearly
// always. `scratch` holds it otherwise.
Tensor epilogue_bias(Ops& ops, Stream& stream, Scratch& scratch, const Tensor& bias, DType type) {
    if (bias.dtype == type && reinterpret_cast<uintptr_t>(bias.data) % 16 == 0) return bias;
    const size_t bytes = static_cast<size_t>(bias.elements()) * size_of(type);
    const Tensor converted(scratch.reserve(bytes), type, bias.shape);
    ops.copy(stream, bias, converted);
    return converted;
}

}  // namespace

void CudaOps::linear_forward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                             const Tensor& y) {
    CudaMatmulCall call = linear_call(x, w, y);
    if (!bias) {
        matmul_->run(stream, call);
        return;
    }
    call.epilogue = MatmulEpilogue::bias;
    call.bias = epilogue_bias(*this, stream, scratch_, bias, y.dtype);
    if (matmul_->try_run(stream, call)) return;
    // No algorithm adds a bias at such sizes or addresses: as a table of one position, then.
    call.epilogue = MatmulEpilogue::none;
    matmul_->run(stream, call);
    position_forward(stream, call.bias.reshaped({1, y.cols()}), 0, 1, Tensor(), y);
}

void CudaOps::linear_backward_input(Stream& stream, const Tensor& dy, const Tensor& w,
                                    const Tensor& dx) {
    matmul_->run(stream, input_gradient_call(dy, w, dx));
}

void CudaOps::linear_backward_weight(Stream& stream, const Tensor& dy, const Tensor& x,
                                     const Tensor& dw) {
    matmul_->run(stream, weight_gradient_call(dy, x, dw));
}

// cuBLASLt can sum the rows of dy while it multiplies them, which saves reading dy again, but its
// products with sums may be slower ones, and it cannot add the sums to what is there.
void CudaOps::linear_backward_weight_bias(Stream& stream, const Tensor& dy, const Tensor& x,
                                          const Tensor& dw, const Tensor& db) {
    const auto apart = [&](const Tensor& weight, const Tensor& bias) {
        Ops::linear_backward_weight_bias(stream, dy, x, weight, bias);
    };
    if (!options_.tune_matmul || dy.rows() == 0) return apart(dw, db);
    const auto with_sums = [&](const Tensor& weight) {
        CudaMatmulCall call = weight_gradient_call(dy, x, weight);
        call.epilogue = MatmulEpilogue::sums;
        call.bias = Tensor(scratch_.reserve_elements<float>(dy.cols()), DType::f32, {dy.cols()});
        return call;
    };
    const auto together = [&](const Tensor& weight, const Tensor& bias) {
        const CudaMatmulCall call = with_sums(weight);
        matmul_->run(stream, call);
        add(stream, call.bias, bias);
    };
    if (matmul_->pays(stream, with_sums(dw), together, apart)) return together(dw, db);
    apart(dw, db);
}

void CudaOps::linear_gelu_forward(Stream& stream, const Tensor& x, const Tensor& w,
                                  const Tensor& bias, const Tensor& pre, const Tensor& y) {
    CudaMatmulCall call = linear_call(x, w, y);
    check_gelu_forward(pre, y);
    if (!takes_gelu_epilogue(x)) {
        Ops::linear_gelu_forward(stream, x, w, bias, pre, y);
        return;
    }
    call.epilogue = bias ? MatmulEpilogue::gelu_aux_bias : MatmulEpilogue::gelu_aux;
    call.aux = pre;
    if (bias) call.bias = epilogue_bias(*this, stream, scratch_, bias, y.dtype);
    if (matmul_->try_run(stream, call)) return;
    Ops::linear_gelu_forward(stream, x, w, bias, pre, y);
}

void CudaOps::linear_gelu_backward_input(Stream& stream, const Tensor& dy, const Tensor& w,
                                         const Tensor& pre, const Tensor& dx) {
    CudaMatmulCall call = input_gradient_call(dy, w, dx);
    check_gelu_backward(dx, pre, dx);
    if (!takes_gelu_epilogue(dy)) {
        Ops::linear_gelu_backward_input(stream, dy, w, pre, dx);
        return;
    }
    call.epilogue = MatmulEpilogue::gelu_backward;
    call.aux = pre;
    if (matmul_->try_run(stream, call)) return;
    Ops::linear_gelu_backward_input(stream, dy, w, pre, dx);
}

}  // namespace trireme
