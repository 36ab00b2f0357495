#pragma once

#include <cstdint>
#include <vector>

#include "core/cpu/matmul.h"

namespace trireme {

// Products of two bf16 matrices with the processor's tile instructions (AMX-BF16), summed in f32.
// It exists because oneDNN 2.6 asks CPUID leaf 0x1D how to lay out tiles and cannot use AMX where
// a hypervisor hides that leaf, which leaves bf16 slower than fp32; the instructions themselves
// work there. Use only where plan_matmul says Bf16Matmul::amx. Sums are taken in an order that
// depends on k alone, so that results have the same bits for any number of threads.
class AmxMatmul {
public:
    explicit AmxMatmul(int threads);

    // a and b are bf16, bias is f32 or absent. c is f32, or bf16 where one pass is enough for k.
    void multiply(const MatmulCall& call);

    // Whether the sums over k stay in registers and scratch memory until they are complete.
    static bool in_one_pass(int64_t k);

private:
    int threads_;
    std::vector<uint16_t> scratch_;
};

}  // namespace trireme
