#pragma once

#include "core/error.h"
#include "core/ops.h"
#include "core/tensor_checks.h"

namespace trireme {

// Rows of qkv as the norms of single heads see them.
struct HeadNormShape {
    int64_t rows;
    int64_t cols;
    int heads;         // query heads
    int normed_heads;  // query heads, then key heads
    int64_t head_dim;

    // Checks what the operations of both back ends ask of their tensors.
    static HeadNormShape of(const Tensor& qkv, const Tensor& query_weight, const Tensor& key_weight,
                            int heads, int kv_heads, const Tensor& other) {
        const int64_t all_heads = heads + 2 * int64_t{kv_heads};
        const int64_t head_dim = query_weight.elements();
        TRIREME_CHECK(heads >= 0 && kv_heads >= 0 && head_dim > 0 && head_dim <= kMostNormedHead &&
                          qkv.cols() == all_heads * head_dim,
                      "qkv [N, (heads + 2 kv_heads) * D]");
        TRIREME_CHECK(same_matrix(qkv, other) && qkv.data != other.data,
                      "two tensors of qkv's size and type");
        TRIREME_CHECK(is_vector(query_weight, qkv.dtype, head_dim) &&
                          is_vector(key_weight, qkv.dtype, head_dim),
                      "weights of one head's width and of qkv's type");
        return {qkv.rows(), qkv.cols(), heads, heads + kv_heads, head_dim};
    }

    // What the backward asks besides.
    void check_weight_gradients(const Tensor& dquery_weight, const Tensor& dkey_weight) const {
        TRIREME_CHECK(is_vector(dquery_weight, DType::f32, head_dim) &&
                          is_vector(dkey_weight, DType::f32, head_dim),
                      "f32 gradients of the heads' weights");
    }
};

}  // namespace trireme
