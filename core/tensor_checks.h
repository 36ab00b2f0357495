#pragma once

#include <cstdint>

#include "core/tensor.h"

// What the checks of the operations ask of tensors again and again.

namespace trireme {

inline bool same_matrix(const Tensor& a, const Tensor& b) {
    return a.dtype == b.dtype && a.rows() == b.rows() && a.cols() == b.cols();
}

inline bool is_vector(const Tensor& t, DType type, int64_t elements) {
    return t.dtype == type && t.elements() == elements;
}

}  // namespace trireme
