#pragma once

#include <cstdint>

#include "core/error.h"
#include "core/ops.h"
#include "core/tensor_checks.h"

// What the operations of both back ends are given, in the order of core/ops.h. Attention, norms and
// residual adds, and heads among parts have headers of their own.

namespace trireme {

// --- matmul --------------------------------------------------------------------------------------
// The matrix products check types and the bias themselves: what they take differs.

inline void check_linear_forward(const Tensor& x, const Tensor& w, const Tensor& y) {
    TRIREME_CHECK(x.cols() == w.cols() && y.cols() == w.rows() && y.rows() == x.rows(),
                  "linear shapes x [N, K], w [M, K], y [N, M]");
}

inline void check_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx) {
    TRIREME_CHECK(dy.cols() == w.rows() && dx.cols() == w.cols() && dx.rows() == dy.rows(),
                  "linear shapes dy [N, M], w [M, K], dx [N, K]");
}

inline void check_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw) {
    TRIREME_CHECK(dy.rows() == x.rows() && dw.rows() == dy.cols() && dw.cols() == x.cols() &&
                      dw.dtype == DType::f32,
                  "linear shapes dy [N, M], x [N, K], dw [M, K] of f32");
}

inline void check_bias_backward(const Tensor& dy, const Tensor& db) {
    TRIREME_CHECK(db.elements() == dy.cols() && db.dtype == DType::f32,
                  "bias gradient [M] of f32 for dy [N, M]");
}

// --- rotary embedding ----------------------------------------------------------------------------

// Forward for qkv, backward for dqkv.
inline void check_rope(const Tensor& qkv, const Tensor& cos_sin, int heads, int kv_heads,
                       int head_dim) {
    TRIREME_CHECK(head_dim > 0 && head_dim % 2 == 0 && heads >= 0 && kv_heads >= 0,
                  "an even head size and no negative number of heads");
    TRIREME_CHECK(qkv.shape.rank() == 3 && qkv.cols() == (heads + 2 * int64_t{kv_heads}) * head_dim,
                  "qkv [B, T, (heads + 2 kv_heads) * D]");
    TRIREME_CHECK(cos_sin.dtype == DType::f32 && cos_sin.shape.rank() == 3 &&
                      cos_sin.shape[0] >= qkv.shape[1] && cos_sin.shape[1] == 2 &&
                      cos_sin.shape[2] == head_dim / 2,
                  "rope table [T_max, 2, D / 2] f32 that covers the sequence");
}

// --- activations ---------------------------------------------------------------------------------

inline void check_gelu_forward(const Tensor& x, const Tensor& y) {
    TRIREME_CHECK(same_matrix(x, y), "gelu input and output of one size and type");
}

inline void check_gelu_backward(const Tensor& dy, const Tensor& x, const Tensor& dx) {
    TRIREME_CHECK(same_matrix(dy, x) && same_matrix(dy, dx),
                  "gelu gradients of the input's size and type");
}

inline void check_swiglu_forward(const Tensor& gate_up, const Tensor& y) {
    TRIREME_CHECK(
        gate_up.dtype == y.dtype && gate_up.rows() == y.rows() && gate_up.cols() == 2 * y.cols(),
        "swiglu input [N, 2F] and output [N, F]");
}

inline void check_swiglu_backward(const Tensor& dy, const Tensor& gate_up, const Tensor& dgate_up) {
    TRIREME_CHECK(gate_up.dtype == dy.dtype && gate_up.rows() == dy.rows() &&
                      gate_up.cols() == 2 * dy.cols() && same_matrix(gate_up, dgate_up),
                  "swiglu gradients [N, F] and [N, 2F] of the input's type");
}

// --- embedding -----------------------------------------------------------------------------------

inline void check_embedding_forward(const Tensor& ids, const Tensor& table, const Tensor& y) {
    TRIREME_CHECK(is_vector(ids, DType::i32, y.rows()), "one i32 id for each row of the output");
    TRIREME_CHECK(table.dtype == y.dtype && table.cols() == y.cols(),
                  "embedding rows of the output's size and type");
}

inline void check_embedding_backward(const Tensor& dy, const Tensor& ids, const Tensor& dtable) {
    TRIREME_CHECK(is_vector(ids, DType::i32, dy.rows()), "one i32 id for each row of the gradient");
    TRIREME_CHECK(dtable.dtype == DType::f32 && dtable.cols() == dy.cols(),
                  "an f32 table gradient of the gradient's row size");
}

// What forward and backward have in common; backward's are dtable and dy.
inline void check_positions(const Tensor& table, int64_t first_token, int64_t sequence,
                            const Tensor& document_begin, const Tensor& y) {
    TRIREME_CHECK(
        sequence > 0 && sequence <= table.rows() && first_token >= 0 && table.cols() == y.cols(),
        "position table [T_max, C] that covers the sequence");
    TRIREME_CHECK(!document_begin || is_vector(document_begin, DType::i32, y.rows()),
                  "one i32 document begin for each token");
}

inline void check_position_forward(const Tensor& table, int64_t first_token, int64_t sequence,
                                   const Tensor& document_begin, const Tensor& y) {
    check_positions(table, first_token, sequence, document_begin, y);
    TRIREME_CHECK(table.dtype == y.dtype, "a position table of the activations' type");
}

inline void check_position_backward(const Tensor& dy, int64_t first_token, int64_t sequence,
                                    const Tensor& document_begin, const Tensor& dtable) {
    check_positions(dtable, first_token, sequence, document_begin, dy);
    TRIREME_CHECK(dtable.dtype == DType::f32, "an f32 table gradient");
}

// --- cross entropy over a split vocabulary -------------------------------------------------------

inline void check_logits(const Tensor& logits, int64_t valid_cols) {
    TRIREME_CHECK(logits.dtype == DType::f32, "f32 logits");
    TRIREME_CHECK(valid_cols >= 0 && valid_cols <= logits.cols(), "valid columns within the row");
}

inline void check_labels(const Tensor& logits, const Tensor& labels, int64_t first_row,
                         const Tensor& sums) {
    const int64_t rows = logits.rows();
    TRIREME_CHECK(first_row >= 0, "no negative first vocabulary row");
    TRIREME_CHECK(is_vector(labels, DType::i32, rows), "one i32 label for each row");
    TRIREME_CHECK(is_vector(sums, DType::f32, 2 * rows), "f32 sums [2, N]");
}

inline void check_cross_entropy_max(const Tensor& logits, int64_t valid_cols,
                                    const Tensor& row_max) {
    check_logits(logits, valid_cols);
    TRIREME_CHECK(is_vector(row_max, DType::f32, logits.rows()), "one f32 maximum for each row");
}

inline void check_cross_entropy_exp(const Tensor& logits, int64_t valid_cols, const Tensor& row_max,
                                    const Tensor& labels, int64_t first_row, const Tensor& sums) {
    check_logits(logits, valid_cols);
    check_labels(logits, labels, first_row, sums);
    TRIREME_CHECK(is_vector(row_max, DType::f32, logits.rows()), "one f32 maximum for each row");
}

inline void check_cross_entropy_finish(const Tensor& exp_logits, int64_t valid_cols,
                                       const Tensor& labels, int64_t first_row, const Tensor& sums,
                                       const Tensor& losses, const Tensor& dlogits) {
    check_logits(exp_logits, valid_cols);
    check_labels(exp_logits, labels, first_row, sums);
    const int64_t rows = exp_logits.rows();
    TRIREME_CHECK(is_vector(losses, DType::f32, rows), "one f32 loss for each row");
    TRIREME_CHECK(!dlogits || (dlogits.rows() == rows && dlogits.cols() == exp_logits.cols()),
                  "gradients of the logits' size");
}

// --- plain element work --------------------------------------------------------------------------

inline void check_copy(const Tensor& from, const Tensor& to) {
    TRIREME_CHECK(from.elements() == to.elements(), "copies of the same number of elements");
}

inline void check_add(const Tensor& x, const Tensor& y) {
    TRIREME_CHECK(x.elements() == y.elements(), "addends of the same number of elements");
}

// add_sum and add_squared_norm.
inline void check_add_total(const Tensor& x, const Tensor& total) {
    TRIREME_CHECK(x.dtype == DType::f32, "f32 values to sum");
    TRIREME_CHECK(is_vector(total, DType::f64, 1), "one f64 total");
}

inline void check_clip_scale(const Tensor& squared_norm, const Tensor& scale) {
    TRIREME_CHECK(is_vector(squared_norm, DType::f64, 1) && is_vector(scale, DType::f32, 1),
                  "one f64 squared norm and one f32 scale");
}

// --- optimizer -----------------------------------------------------------------------------------

inline void check_adamw(const AdamWStep& step, const Tensor& grad, const Tensor& grad_scale,
                        const Tensor& master, const Tensor& m, const Tensor& v,
                        const Tensor& param) {
    const int64_t n = grad.elements();
    TRIREME_CHECK(is_vector(grad, DType::f32, n) && is_vector(master, DType::f32, n) &&
                      is_vector(m, DType::f32, n) && is_vector(v, DType::f32, n),
                  "gradient, master weights and moments in f32 and of one size");
    TRIREME_CHECK(is_vector(param, param.dtype, n), "parameters of the gradient's size");
    TRIREME_CHECK(is_vector(grad_scale, DType::f32, 1), "one f32 scale of the gradient");
    TRIREME_CHECK(step.step >= 1, "AdamW steps counted from 1");
}

}  // namespace trireme
