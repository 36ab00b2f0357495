#pragma once

#include "core/error.h"
#include "core/ops.h"
#include "core/tensor_checks.h"

// What the residual adds, dropouts and norms of both back ends are given.

namespace trireme {

inline void check_probability(const Dropout& dropout) {
    TRIREME_CHECK(dropout.probability >= 0.0f && dropout.probability < 1.0f,
                  "a dropout probability in [0, 1)");
}

inline void check_residual_add(const ResidualAdd& add) {
    TRIREME_CHECK(same_matrix(add.residual, add.y) && same_matrix(add.residual, add.out),
                  "residual, addend and sum of one size and type");
    TRIREME_CHECK(!add.bias || is_vector(add.bias, add.y.dtype, add.y.cols()),
                  "a bias of one row's size and type");
    check_probability(add.dropout);
}

inline void check_dropout_apply(const Tensor& dout, const Dropout& dropout, const Tensor& dy) {
    TRIREME_CHECK(same_matrix(dout, dy), "dropout input and output of one size and type");
    check_probability(dropout);
}

// A norm's forward for an input x.
inline void check_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias,
                             const Tensor& y, const Tensor& mean, const Tensor& rstd) {
    TRIREME_CHECK(same_matrix(x, y) && is_vector(weight, x.dtype, x.cols()) &&
                      is_vector(bias, x.dtype, x.cols()),
                  "norm output, weight and bias of the input's size and type");
    TRIREME_CHECK(is_vector(mean, DType::f32, x.rows()) && is_vector(rstd, DType::f32, x.rows()),
                  "one f32 mean and reciprocal deviation for each row");
}

inline void check_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& y,
                           const Tensor& rstd) {
    TRIREME_CHECK(same_matrix(x, y) && is_vector(weight, x.dtype, x.cols()),
                  "norm output and weight of the input's size and type");
    TRIREME_CHECK(is_vector(rstd, DType::f32, x.rows()), "one f32 statistic for each row");
}

inline void check_rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                    const Tensor& rstd, const Tensor& dx, const Tensor& dweight) {
    TRIREME_CHECK(same_matrix(dy, x) && same_matrix(dx, x) && is_vector(weight, x.dtype, x.cols()),
                  "norm gradients and weight of the input's size and type");
    TRIREME_CHECK(is_vector(rstd, DType::f32, x.rows()), "one f32 statistic for each row");
    TRIREME_CHECK(is_vector(dweight, DType::f32, x.cols()), "an f32 gradient of the norm's weight");
}

// As the RMS norm's, and the mean and the bias's gradient.
inline void check_layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                      const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                                      const Tensor& dweight, const Tensor& dbias) {
    TRIREME_CHECK(is_vector(mean, DType::f32, x.rows()), "one f32 mean for each row");
    TRIREME_CHECK(is_vector(dbias, DType::f32, x.cols()), "an f32 gradient of the norm's bias");
    check_rms_norm_backward(dy, x, weight, rstd, dx, dweight);
}

}  // namespace trireme
