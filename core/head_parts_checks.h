#pragma once

#include "core/error.h"
#include "core/head_parts.h"
#include "core/tensor_checks.h"

namespace trireme {

// What the operations of both back ends ask of their tensors.
inline void check_head_parts(const HeadParts& s, const Tensor& rows, const Tensor& parts) {
    TRIREME_CHECK(s.parts > 0 && s.heads > 0 && s.head_dim > 0 && s.heads % s.parts == 0,
                  "heads that can be shared out evenly");
    TRIREME_CHECK(s.kv_heads >= 0 &&
                      (s.kv_heads == 0 || s.kv_heads % s.parts == 0 || s.parts % s.kv_heads == 0),
                  "key/value heads that parts divide, or that divide the parts");
    // A GPU counts in 32 bits what stands in one row of all parts.
    TRIREME_CHECK(s.parts * s.part_width() <= int64_t{1} << 30, "rows of at most 2^30 elements");
    TRIREME_CHECK(rows.cols() == s.width() && parts.cols() == s.part_width() &&
                      parts.rows() == s.parts * rows.rows(),
                  "rows [N, (heads + 2 kv_heads) * D] and as many of each part");
    TRIREME_CHECK(rows.dtype == parts.dtype && (rows.rows() == 0 || rows.data != parts.data),
                  "rows and parts of one type in different memory");
}

}  // namespace trireme
