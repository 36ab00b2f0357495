#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace trireme {

// Floats in a vector register of the processor that is compiled for, and registers there are.
#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
inline constexpr int kVectorRegisters = 32;
#elif defined(__AVX__)
inline constexpr int kLanes = 8;
inline constexpr int kVectorRegisters = 16;
#else
inline constexpr int kLanes = 4;
inline constexpr int kVectorRegisters = 16;
#endif

// A block product of attention, c = a b or c += a b, with every operand in f32 and near in cache.
// a may have any strides (so also be transposed); rows of b and c are contiguous, and n is a
// multiple of kLanes.
struct BlockMultiply {
    int64_t m, n, k;
    const float* a;  // element (i, l) at a[i * a_row + l * a_col]
    int64_t a_row, a_col;
    const float* b;  // [k, n]
    int64_t b_row;
    float* c;  // [m, n]
    int64_t c_row;
    bool accumulate;
};

namespace detail {

using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));

inline Vector load(const float* from) {
    Vector v;
    std::memcpy(&v, from, sizeof(v));
    return v;
}

inline void store(float* to, Vector v) {
    std::memcpy(to, &v, sizeof(v));
}

// kRows x (kVectors * kLanes) elements of c, held in registers over the whole depth.
template <int kRows, int kVectors>
void multiply_tile(const BlockMultiply& p, const float* a, const float* b, float* c) {
    Vector sums[kRows][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
            sums[i][j] = p.accumulate ? load(c + i * p.c_row + j * kLanes) : Vector{};
        }
    }
    for (int64_t l = 0; l < p.k; ++l) {
        Vector row[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) row[j] = load(b + j * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            const float factor = a[i * p.a_row];
#pragma GCC unroll 4
            for (int j = 0; j < kVectors; ++j) sums[i][j] += factor * row[j];
        }
        a += p.a_col;
        b += p.b_row;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) store(c + i * p.c_row + j * kLanes, sums[i][j]);
    }
}

template <int kRows, int kVectors>
void multiply_last_rows(const BlockMultiply& p, int64_t rows, const float* a, const float* b,
                        float* c) {
    if (rows == kRows) {
        multiply_tile<kRows, kVectors>(p, a, b, c);
    } else if constexpr (kRows > 1) {
        multiply_last_rows<kRows - 1, kVectors>(p, rows, a, b, c);
    }
}

template <int kVectors>
void multiply_strip(const BlockMultiply& p, const float* b, float* c) {
    // Sums, one row of b and a broadcast factor have to fit the registers.
    constexpr int kRows = std::min(14, (kVectorRegisters - kVectors - 1) / kVectors);
    int64_t i = 0;
    for (; i + kRows <= p.m; i += kRows) {
        multiply_tile<kRows, kVectors>(p, p.a + i * p.a_row, b, c + i * p.c_row);
    }
    if (i < p.m) {
        multiply_last_rows<kRows, kVectors>(p, p.m - i, p.a + i * p.a_row, b, c + i * p.c_row);
    }
}

}  // namespace detail

inline void multiply(const BlockMultiply& p) {
    constexpr int64_t kWidest = kVectorRegisters == 32 ? 4 : 2;
    for (int64_t j = 0; j < p.n;) {
        const int64_t left = (p.n - j) / kLanes;
        // Five or six vectors go as 3 + 2 or 3 + 3: one alone would leave the units waiting.
        const int64_t width =
            left > kWidest && left < kWidest + 3 && kWidest == 4 ? 3 : std::min(left, kWidest);
        const float* b = p.b + j;
        float* c = p.c + j;
        if (width == 4) detail::multiply_strip<4>(p, b, c);
        if (width == 3) detail::multiply_strip<3>(p, b, c);
        if (width == 2) detail::multiply_strip<2>(p, b, c);
        if (width == 1) detail::multiply_strip<1>(p, b, c);
        j += width * kLanes;
    }
}

}  // namespace trireme
