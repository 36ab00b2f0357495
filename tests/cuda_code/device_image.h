#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

// Accesses to one kind of memory in a kernel's machine code.
struct Accesses {
    int loads_of_16_bytes = 0;
    int other_loads = 0;
    int stores_of_16_bytes = 0;
    int other_stores = 0;
};

// Bytes at the beginning of a block's shared memory that the system keeps for itself.
inline constexpr int64_t kReservedShared = 1 << 10;

// What the compiler made of a kernel.
struct KernelCode {
    std::string name;  // without namespaces, return type and parameters: adamw_kernel<bf16, 4>
    int registers = 0;
    int most_threads = 0;      // of a block, by its launch bounds; 0: not given
    int64_t shared_bytes = 0;  // of its own
    int64_t stack_bytes = 0;
    int local_accesses = 0;  // to the stack: spilled registers, arrays indexed at run time
    int instructions = 0;
    int fused_multiply_adds = 0;  // of f32
    int tensor_core_products = 0;
    Accesses global;
    // Global accesses of less than 8 bytes right beside another: of a pack that was taken apart.
    int split_accesses = 0;
};

// The project's kernels in the device images for compute capability sm_`architecture` that a file
// (object, library or program) holds, by name. Images must lie in it uncompressed, as the CUDA
// compiler leaves machine code. Knows the instruction encoding of sm_70 to sm_90.
std::vector<KernelCode> kernels_in(std::string_view file, int architecture);

// A kernel's demangled name without what is the same for all: namespaces, `void`, parameters.
std::string short_name(const std::string& demangled);

}  // namespace trireme
