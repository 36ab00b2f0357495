#pragma once

#include "core/error.h"
#include "core/tensor.h"

// What the operations of both back ends ask of their tensors.

namespace trireme {

inline bool same_matrix(const Tensor& a, const Tensor& b) {
    return a.dtype == b.dtype && a.rows() == b.rows() && a.cols() == b.cols();
}

inline bool is_vector(const Tensor& t, DType type, int64_t elements) {
    return t.dtype == type && t.elements() == elements;
}

inline void check_positions(const Tensor& table, int64_t first_token, int64_t sequence,
                            const Tensor& document_begin, const Tensor& y) {
    TRIREME_CHECK(
        sequence > 0 && sequence <= table.rows() && first_token >= 0 && table.cols() == y.cols(),
        "position table [T_max, C] that covers the sequence");
    TRIREME_CHECK(!document_begin || is_vector(document_begin, DType::i32, y.rows()),
                  "one i32 document begin for each token");
}

}  // namespace trireme
