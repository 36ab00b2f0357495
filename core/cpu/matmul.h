#pragma once

#include <cstdint>
#include <memory>

#include "core/cpu/amx_support.h"
#include "core/tensor.h"

namespace trireme {

// c = op(a) op(b) + bias, or c += op(a) op(b). Row-major and contiguous; op is a transposition.
struct MatmulCall {
    int64_t m = 0;
    int64_t n = 0;
    int64_t k = 0;
    bool a_transposed = false;  // a is [m, k], or [k, m] when transposed
    bool b_transposed = false;  // b is [k, n], or [n, k] when transposed
    bool accumulate = false;    // only with c of f32 and without bias
    Tensor a, b;                // f32 or bf16, each
    Tensor bias;                // [n] f32 or bf16, or absent
    Tensor c;                   // [m, n] f32 or bf16
};

class AmxMatmul;

// Matrix products for one rank, in f32 arithmetic whatever the types of the operands. Two bf16
// operands go the way `bf16_matmul` says; every other mix is converted to f32 first. Primitives
// are made once for each shape and kept, so that a known shape allocates nothing here.
class CpuMatmul {
public:
    explicit CpuMatmul(int threads);  // as the plan of this processor says
    CpuMatmul(int threads, Bf16Matmul bf16_matmul);
    ~CpuMatmul();

    void multiply(const MatmulCall& call);

    int64_t primitives_made() const;  // how many primitives were built so far

private:
    void multiply_f32(const MatmulCall& call);
    void multiply_amx(const MatmulCall& call);
    void round_result(const Tensor& from, const Tensor& to) const;

    class Onednn;
    class Scratch;
    int threads_;
    Bf16Matmul bf16_matmul_;
    std::unique_ptr<Onednn> onednn_;
    std::unique_ptr<Scratch> scratch_;
    std::unique_ptr<AmxMatmul> amx_;
};

}  // namespace trireme
