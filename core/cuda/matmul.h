#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/stream.h"
#include "core/tensor.h"

namespace trireme {

class CudaDevice;

// What is done with the product before it is stored, in f32.
enum class MatmulEpilogue {
    none,
    bias,           // + bias of the output's columns
    gelu_aux_bias,  // aux = product + bias; output = gelu(aux before it was rounded)
    gelu_aux,       // aux = product; output = gelu(aux before it was rounded)
    gelu_backward,  // output = product * gelu'(aux)
    sums,           // bias = the sums of op(a)'s rows, which is how a bias gets its gradient
};

// output[rows, cols] = op(a) op(b) or output += op(a) op(b), all row-major.
struct CudaMatmulCall {
    Tensor a, b;               // of one type, f32 or bf16
    bool transpose_a = false;  // a is [inner, rows] instead of [rows, inner]
    bool transpose_b = false;  // b is [cols, inner] instead of [inner, cols]
    Tensor output;             // [rows, cols] f32, or as a
    bool accumulate = false;   // output += (f32 output, no epilogue but sums)
    MatmulEpilogue epilogue = MatmulEpilogue::none;
    Tensor bias;  // [cols], of sums [rows], as output, where the epilogue has one
    Tensor aux;   // [rows, cols] as output, where the epilogue has one
};

// Matrix products by cuBLASLt, accumulated in f32, f32 products without TF32. Descriptors and the
// choice of algorithm are made at the first use of a shape and kept: from then on a product
// allocates nothing and asks for nothing. All calls are for one stream, whose workspace they share.
class CudaMatmul {
public:
    // tune: measure a few algorithms at the first use of a shape (blocks the host then) and keep
    // the fastest.
    CudaMatmul(CudaDevice& device, bool tune);
    ~CudaMatmul();

    // Throws Error when cuBLASLt cannot do it.
    void run(Stream& stream, const CudaMatmulCall& call);
    // False, with nothing done, when cuBLASLt cannot do the product and its epilogue in one pass:
    // no algorithm for them, or an aux whose rows are not multiples of 8 elements and 16 bytes.
    bool try_run(Stream& stream, const CudaMatmulCall& call);

    // One way to do a product and what belongs to it, on memory given instead of the call's.
    using Variant = std::function<void(const Tensor& output, const Tensor& bias)>;
    // Whether `together`, which does this call and what its epilogue leaves to do, is faster than
    // `apart`. Both are measured at the first time for a shape, on memory of the trial's (blocks
    // the host then). Without tune, without memory or an algorithm: no.
    bool pays(Stream& stream, const CudaMatmulCall& call, const Variant& together,
              const Variant& apart);

    // Gives up the memory of trials, which is large. Where the device settles.
    void forget_trials();

    // The chosen algorithms, one line a shape, for people and logs.
    std::string describe_algorithms() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace trireme
