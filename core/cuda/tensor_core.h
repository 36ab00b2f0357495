#pragma once

#include <cuda_runtime.h>

#include <cfloat>
#include <cstdint>

#include "core/dtype.h"

// A warp's instructions for tensor cores, sm_80 and newer: all 32 lanes execute each of them
// together. Where elements lie among the lanes is PTX's: "Matrix fragments for mma.m16n8k16" and
// "ldmatrix" in the PTX ISA. For .cu files only.
namespace trireme {

// 16 x 8 sums: a lane has rows lane / 4 (0 and 1) and lane / 4 + 8 (2 and 3), and of each the
// columns 2 * (lane % 4) and the next.
struct WarpSums {
    float of[4] = {};
};

// 16 x 16 bf16, two a register: rows as in WarpSums, first in columns 0 to 7, then in 8 to 15.
struct WarpLeft {
    uint32_t of[4];
};

// sums += left (16 x 16) * right (16 x 8). Of the right matrix a lane has column lane / 4, and in
// it rows 2 * (lane % 4) and the next (right0) and the same 8 rows further (right1).
__device__ inline void multiply_add(WarpSums& sums, const WarpLeft& left, uint32_t right0,
                                    uint32_t right1) {
#ifdef __CUDACC__
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums.of[0]), "+f"(sums.of[1]), "+f"(sums.of[2]), "+f"(sums.of[3])
        : "r"(left.of[0]), "r"(left.of[1]), "r"(left.of[2]), "r"(left.of[3]), "r"(right0),
          "r"(right1));
#else
    cuda_emulation::multiply_add_in_warp(sums.of, left.of, {right0, right1});
#endif
}

// Eight bf16 as they lie in memory.
struct alignas(16) EightBf16 {
    uint32_t two[4];
};

// An address in shared memory to compute with.
#ifdef __CUDACC__
using SharedAddress = uint32_t;
#else
using SharedAddress = uintptr_t;
#endif
__device__ inline SharedAddress shared_address(const EightBf16* of) {
#ifdef __CUDACC__
    return static_cast<SharedAddress>(__cvta_generic_to_shared(of));
#else
    return reinterpret_cast<SharedAddress>(of);
#endif
}

// Four matrices of 8 x 8 bf16 from shared memory: `row` of lane l is row l % 8 of matrix l / 8.
// Register i gets of matrix i row lane / 4, columns 2 * (lane % 4) and the next; transposed, column
// lane / 4, rows 2 * (lane % 4) and the next.
template <bool transposed>
__device__ inline void load_matrices(uint32_t (&to)[4], SharedAddress row) {
#ifdef __CUDACC__
    if constexpr (transposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(row)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(row)
                     : "memory");
    }
#else
    cuda_emulation::load_matrices_in_warp(to, reinterpret_cast<const void*>(row), transposed);
#endif
}

// Two numbers rounded to bf16, the first in the lower half.
__device__ inline uint32_t two_bf16(float first, float second) {
#ifdef __CUDACC__
    uint32_t result;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
    return result;
#else
    return bf16(first).bits | static_cast<uint32_t>(bf16(second).bits) << 16;
#endif
}

// 2^x, within 2 ulp of f32; 0 where that is less than the smallest normal number.
__device__ inline float approximate_exp2(float x) {
#ifdef __CUDACC__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    const float result = exp2f(x);
    return result < FLT_MIN ? 0.0f : result;
#endif
}

// From global to shared memory without waiting, or zeros, for which `from` is not looked at. The
// copies of a thread between two of its marks are a group.
__device__ inline void copy_async(EightBf16* to, const EightBf16* from, bool zeros) {
#ifdef __CUDACC__
    asm volatile(
        "{ .reg .pred zeros; setp.ne.b32 zeros, %2, 0;"
        " cp.async.cg.shared.global [%0], [%1], 16, zeros; }" ::"r"(shared_address(to)),
        "l"(__cvta_generic_to_global(from)), "r"(static_cast<int>(zeros))
        : "memory");
#else
    cuda_emulation::copy_later(to, from, zeros);
#endif
}
__device__ inline void mark_copies() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    cuda_emulation::mark_copies();
#endif
}
// Waits for the calling thread's groups, except for the `but` newest. What other threads copied is
// there when they too have waited and a barrier has passed.
template <int but>
__device__ inline void wait_for_copies() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
#else
    cuda_emulation::wait_for_copies(but);
#endif
}

}  // namespace trireme
