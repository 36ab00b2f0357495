#pragma once

#include <cstdint>

#include "core/error.h"
#include "core/ops.h"
#include "core/tensor_checks.h"

namespace trireme {

// Checks what attention is given on any back end: the shape, and the tensors that forward and
// backward have in common.
inline void check_attention(const AttentionShape& s, const Tensor& qkv, const Tensor& out,
                            const Tensor& lse) {
    TRIREME_CHECK(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0 && s.head_dim > 0,
                  "attention heads that the key/value heads divide");
    TRIREME_CHECK(s.dropout.probability == 0.0f || s.heads_global >= s.heads,
                  "the model's number of heads for attention dropout");
    const int64_t tokens = s.batch * s.sequence;
    TRIREME_CHECK(qkv.elements() == tokens * (s.heads + 2 * s.kv_heads) * s.head_dim &&
                      out.elements() == tokens * s.heads * s.head_dim &&
                      lse.elements() == tokens * s.heads && lse.dtype == DType::f32 &&
                      out.dtype == qkv.dtype,
                  "attention tensors qkv, out and lse of the shape's sizes");
    TRIREME_CHECK(s.first_query >= 0 && s.first_query <= s.sequence,
                  "a first query within the sequence");
    TRIREME_CHECK(!s.document_begin || is_vector(s.document_begin, DType::i32, tokens),
                  "one i32 document begin for each token");
}

inline void check_attention_backward(const AttentionShape& s, const Tensor& dout, const Tensor& qkv,
                                     const Tensor& out, const Tensor& lse, const Tensor& dqkv) {
    check_attention(s, qkv, out, lse);
    TRIREME_CHECK(dout.elements() == out.elements() && dqkv.elements() == qkv.elements() &&
                      dout.dtype == qkv.dtype && dqkv.dtype == qkv.dtype,
                  "attention gradients of the sizes and type of their tensors");
}

}  // namespace trireme
