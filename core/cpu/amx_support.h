#pragma once

#include <cstdint>
#include <string_view>

namespace trireme {

// What the processor and the kernel say about matrix instructions.
struct ProcessorFacts {
    bool amx_tile = false;       // CPUID 7.0 EDX bit 24
    bool amx_bf16 = false;       // CPUID 7.0 EDX bit 22
    bool amx_enabled = false;    // XCR0 bits 17 and 18: the kernel saves tiles
    uint32_t amx_palettes = 0;   // CPUID 0x1D.0 EAX: highest tile palette
    bool amx_permitted = false;  // the kernel allowed this process to use tiles
    bool avx512_bf16 = false;    // CPUID 7.1 EAX bit 5
};

enum class Bf16Matmul {
    onednn,   // oneDNN's bf16 kernels
    amx,      // our AMX kernel
    convert,  // operands converted to f32, then oneDNN's f32 kernels
};

struct MatmulPlan {
    // oneDNN 2.6 asks CPUID leaf 0x1D how to configure tiles. Where a hypervisor hides the leaf
    // it configures none and dies of an illegal instruction, and without the kernel's permission
    // likewise: then it must be told not to use AMX.
    bool forbid_onednn_amx = false;
    Bf16Matmul bf16_matmul = Bf16Matmul::convert;
    bool amx_attention = false;  // our AMX kernels for attention in bf16, whoever does the matmuls
};

// The way to multiply, as a function of the facts alone. Order: oneDNN with AMX, our AMX kernel,
// oneDNN's AVX512-BF16 on processors without AMX, conversion. Processors with AMX run AVX512-BF16
// at half the rate of their fp32 (measured on Sapphire Rapids), so there conversion wins.
MatmulPlan plan_matmul(const ProcessorFacts& facts);

std::string_view name_of(Bf16Matmul way);

// Asks the processor and the kernel; asking is what makes the kernel grant tiles to the process.
ProcessorFacts read_processor_facts();

// The plan of this machine. On its first call, which must come before any use of oneDNN, limits
// oneDNN if need be. Thread-safe.
const MatmulPlan& this_processor();

}  // namespace trireme
