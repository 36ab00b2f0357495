#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"

namespace trireme {

// f16 and boolean are for files only: no operation computes in them.
enum class DType : uint8_t { f32, bf16, f64, i32, i64, u8, f16, boolean };

constexpr size_t size_of(DType type) {
    switch (type) {
        case DType::f32:
        case DType::i32:
            return 4;
        case DType::bf16:
        case DType::f16:
            return 2;
        case DType::f64:
        case DType::i64:
            return 8;
        case DType::u8:
        case DType::boolean:
            return 1;
    }
    return 0;
}

// Name in messages and in safetensors headers ("F32", "BF16", ...).
std::string_view name_of(DType type);

// bfloat16: the upper half of an fp32. Conversion rounds to nearest even; NaN stays NaN.
struct bf16 {
    uint16_t bits = 0;

    bf16() = default;
    TRIREME_HOST_DEVICE explicit bf16(float value) {
        const uint32_t x = std::bit_cast<uint32_t>(value);
        const uint32_t rounded = (x + 0x7fffu + ((x >> 16) & 1u)) >> 16;
        const uint32_t quiet_nan = (x >> 16) | 0x40u;
        bits = static_cast<uint16_t>((x & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
    }
    TRIREME_HOST_DEVICE operator float() const {
        return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
    }
};

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
    static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bf16> {
    static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<double> {
    static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<int32_t> {
    static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
    static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint8_t> {
    static constexpr DType value = DType::u8;
};

}  // namespace trireme
