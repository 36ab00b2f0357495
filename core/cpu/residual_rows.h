#pragma once

#include <algorithm>

#include "core/cpu/dropout_mask.h"
#include "core/cpu/kernel_support.h"
#include "core/ops.h"

// The residual add over a range of elements or a row, with or without bias and dropout.

namespace trireme {

// Philox costs about as much as 20 element operations.
inline constexpr int64_t kDropoutGrain = kElementGrain / 8;

template <typename T>
void add_range(const T* residual, const T* y, T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(out, i, load(residual, i) + load(y, i));
}

template <typename T>
void add_bias_range(const T* residual, const T* y, const T* bias, T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        store(out, i, load(residual, i) + (load(y, i) + load(bias, i)));
    }
}

template <typename T>
void add_dropped_range(const T* residual, const T* y, const float* factor, T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(out, i, load(residual, i) + factor[i] * load(y, i));
}

template <typename T>
void add_bias_dropped_range(const T* residual, const T* y, const T* bias, const float* factor,
                            T* out, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        store(out, i, load(residual, i) + factor[i] * (load(y, i) + load(bias, i)));
    }
}

// Calls body(begin, count, factors) for tiles of the elements [begin, end).
template <typename Body>
void for_dropout_tiles(const Dropout& dropout, int64_t begin, int64_t end, const Body& body) {
    DropoutTile tile;
    for (int64_t i = begin; i < end; i += DropoutTile::kElements) {
        const int64_t count = std::min(DropoutTile::kElements, end - i);
        body(i, count, tile.make(dropout, dropout.first_element + static_cast<uint64_t>(i), count));
    }
}

template <typename T>
struct ResidualRows {
    const T* residual;
    const T* y;
    const T* bias;  // null where there is none
    Dropout dropout;
    T* out;
    int64_t cols;

    // Elements [begin, end), without a bias.
    void add(int64_t begin, int64_t end) const {
        if (dropout.probability == 0.0f) {
            return add_range(residual + begin, y + begin, out + begin, end - begin);
        }
        for_dropout_tiles(dropout, begin, end,
                          [=, this](int64_t i, int64_t n, const float* factors) {
                              add_dropped_range(residual + i, y + i, factors, out + i, n);
                          });
    }

    // Row n, with a bias or without.
    void make(int64_t n) const {
        const int64_t row = n * cols;
        if (!bias) return add(row, row + cols);
        if (dropout.probability == 0.0f) {
            return add_bias_range(residual + row, y + row, bias, out + row, cols);
        }
        for_dropout_tiles(dropout, row, row + cols,
                          [=, this](int64_t i, int64_t count, const float* factors) {
                              add_bias_dropped_range(residual + i, y + i, bias + (i - row), factors,
                                                     out + i, count);
                          });
    }

    // Least number of elements worth a thread of their own.
    int64_t grain() const { return dropout.probability > 0.0f ? kDropoutGrain : kElementGrain; }
    int64_t grain_of_rows() const {
        return std::max<int64_t>(1, grain() / std::max<int64_t>(cols, 1));
    }
};

template <typename T>
ResidualRows<T> residual_rows(const ResidualAdd& add) {
    return {add.residual.as<T>(), add.y.as<T>(),   add.bias ? add.bias.as<T>() : nullptr,
            add.dropout,          add.out.as<T>(), add.y.cols()};
}

}  // namespace trireme
