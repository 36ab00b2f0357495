#pragma once

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>

#include "core/cuda/launch.h"
#include "core/dtype.h"
#include "core/error.h"

// What the kernels share. For .cu files only.

namespace trireme {

// --- memory ----------------------------------------------------------------------------------

// `n` neighbouring elements as f32, moved in one access of n * sizeof(T) bytes, to which the
// address must be aligned, or in several of 16 bytes.
template <int n>
struct Floats {
    float values[n];
    __device__ float& operator[](int i) { return values[i]; }
    __device__ float operator[](int i) const { return values[i]; }
};

// Elements of T in a 16-byte access.
template <typename T>
inline constexpr int kPackElements = 16 / static_cast<int>(sizeof(T));

template <typename T, int n>
struct alignas(sizeof(T) * n < 16 ? sizeof(T) * n : 16) Pack {
    T values[n];
};

__device__ inline float to_float(float value) {
    return value;
}
__device__ inline float to_float(bf16 value) {
    return value;
}
template <typename T>
__device__ inline T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
    return value;
}
template <>
__device__ inline bf16 from_float<bf16>(float value) {
#ifdef __CUDA_ARCH__
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    return bf16(value);
#endif
}

template <int n, typename T>
__device__ inline Floats<n> load_floats(const T* from) {
    const Pack<T, n> pack = *reinterpret_cast<const Pack<T, n>*>(from);
    Floats<n> result;
#pragma unroll
    for (int i = 0; i < n; ++i) result[i] = to_float(pack.values[i]);
    return result;
}

template <int n, typename T>
__device__ inline void store_floats(T* to, const Floats<n>& from) {
    Pack<T, n> pack;
#pragma unroll
    for (int i = 0; i < n; ++i) pack.values[i] = from_float<T>(from[i]);
    *reinterpret_cast<Pack<T, n>*>(to) = pack;
}

// n elements as they are in memory. Whole words, so that a pack loaded ahead of its use waits in as
// few registers as it has words and is not taken apart until then.
template <typename T, int n>
struct RawPack {
    struct alignas(16) Words {
        uint32_t words[4];
    };
    using Bits = std::conditional_t<sizeof(T) * n == 16, Words, T>;
    Bits bits{};

    __device__ void load(const T* from) { bits = *reinterpret_cast<const Bits*>(from); }
    __device__ Floats<n> floats() const {
        const auto pack = std::bit_cast<Pack<T, n>>(bits);
        Floats<n> result;
#pragma unroll
        for (int k = 0; k < n; ++k) result[k] = to_float(pack.values[k]);
        return result;
    }
};

// As store_floats, to global memory and in one instruction for 8 or 16 bytes. For stores that the
// compiler otherwise takes apart, as it does with some in unrolled loops: tests/cuda_code finds
// them.
template <int n, typename T>
__device__ inline void store_whole(T* to, const Floats<n>& from) {
#ifdef __CUDA_ARCH__
    if constexpr (sizeof(T) * n % 8 == 0) {
        struct Words {
            uint32_t of[sizeof(T) * n / 4];
        };
        Pack<T, n> pack;
#pragma unroll
        for (int i = 0; i < n; ++i) pack.values[i] = from_float<T>(from[i]);
        const auto words = std::bit_cast<Words>(pack);
        const size_t address = __cvta_generic_to_global(to);
        if constexpr (sizeof(words) == 8) {
            asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(words.of[0]),
                         "r"(words.of[1])
                         : "memory");
        } else {
#pragma unroll
            for (size_t i = 0; i < sizeof(words); i += 16) {
                const uint32_t* four = words.of + i / 4;
                asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address + i),
                             "r"(four[0]), "r"(four[1]), "r"(four[2]), "r"(four[3])
                             : "memory");
            }
        }
        return;
    }
#endif
    store_floats<n>(to, from);
}

// Host: the widest access that rows of `cols` elements at these addresses allow: a whole pack of
// 16 bytes, or single elements.
template <typename T>
bool allows_packs(int64_t cols, std::initializer_list<const void*> addresses) {
    if (cols % kPackElements<T> != 0) return false;
    for (const void* address : addresses) {
        if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return false;
    }
    return true;
}

// Host: calls body.template operator()<T, n>() with the element type and the elements an access.
template <typename Body>
void with_packs(DType type, int64_t cols, std::initializer_list<const void*> addresses,
                const Body& body) {
    TRIREME_CHECK(type == DType::f32 || type == DType::bf16, "an activation tensor, f32 or bf16");
    if (type == DType::f32) {
        if (allows_packs<float>(cols, addresses)) {
            body.template operator()<float, kPackElements<float>>();
        } else {
            body.template operator()<float, 1>();
        }
    } else if (allows_packs<bf16>(cols, addresses)) {
        body.template operator()<bf16, kPackElements<bf16>>();
    } else {
        body.template operator()<bf16, 1>();
    }
}

// --- reductions ------------------------------------------------------------------------------
// All in an order that depends on the block size alone, so that results have the same bits in
// every run.

struct Sum {
    template <typename T>
    __device__ T operator()(T a, T b) const {
        return a + b;
    }
    template <typename T>
    static __device__ T identity() {
        return T(0);
    }
};

struct Max {
    template <typename T>
    __device__ T operator()(T a, T b) const {
        return a > b ? a : b;
    }
    template <typename T>
    static __device__ T identity() {
        return T(-INFINITY);
    }
};

// Of all 32 lanes, in all of them. T: float, double or int.
template <typename Op, typename T>
__device__ inline T warp_reduce(T value) {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        value = Op()(value, __shfl_xor_sync(0xffffffffu, value, offset));
    }
    return value;
}

// Of all threads of a block (a multiple of 32, at most 1024), in all of them. Every thread calls
// it; two calls may follow each other.
template <typename Op, typename T>
__device__ inline T block_reduce(T value) {
    __shared__ T of_warp[kWarp];
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    value = warp_reduce<Op>(value);
    __syncthreads();  // the last call's values have been read
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    return warp_reduce<Op>(lane < warps ? of_warp[lane] : Op::template identity<T>());
}

// First element and stride of a thread in a loop over n elements by the whole grid.
__device__ inline int64_t grid_first() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t grid_stride() {
    return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

// The same for a grid of row_grid: a thread's pack of the row, its first row and the stride of its
// loop over rows.
__device__ inline int64_t pack_of_row() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t first_row_of_thread() {
    return static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
}
__device__ inline int64_t row_stride() {
    return static_cast<int64_t>(gridDim.y) * blockDim.y;
}

}  // namespace trireme
