#include "core/cuda/attention.h"
#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/cudnn_attention.h"
#include "core/error.h"
#include "core/tensor_checks.h"

namespace trireme {

namespace {

void check_shape(const AttentionShape& s, const Tensor& qkv, const Tensor& out, const Tensor& lse) {
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

bool takes_cudnn(CudnnAttention* cudnn, const AttentionShape& shape,
                 std::initializer_list<Tensor> activations) {
    if (!cudnn || shape.dropout.probability != 0.0f || shape.document_begin) return false;
    // The graphs are those of whole sequences, and every other length would need another.
    if (shape.first_query > 0) return false;
    for (const Tensor& tensor : activations) {
        const bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0;
        if (tensor.dtype != DType::bf16 || !aligned) return false;
    }
    return cudnn->supports(shape);
}

}  // namespace

void CudaOps::attention_forward(Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                                const Tensor& out, const Tensor& lse) {
    check_shape(shape, qkv, out, lse);
    if (qkv.elements() == 0 || shape.first_query == shape.sequence) return;
    if (takes_cudnn(cudnn_.get(), shape, {qkv, out})) {
        cudnn_->forward(shape, qkv, out, lse);
    } else {
        own_attention_forward(handle_of(stream), shape, qkv, out, lse);
    }
}

void CudaOps::attention_backward(Stream& stream, const AttentionShape& shape, const Tensor& dout,
                                 const Tensor& qkv, const Tensor& out, const Tensor& lse,
                                 const Tensor& dqkv) {
    check_shape(shape, qkv, out, lse);
    TRIREME_CHECK(dout.elements() == out.elements() && dqkv.elements() == qkv.elements() &&
                      dout.dtype == qkv.dtype && dqkv.dtype == qkv.dtype,
                  "attention gradients of the sizes and type of their tensors");
    if (qkv.elements() == 0) return;
    // cuDNN adds up the gradients of queries in any order.
    if (!options_.deterministic && takes_cudnn(cudnn_.get(), shape, {dout, qkv, out, dqkv})) {
        cudnn_->backward(shape, dout, qkv, out, lse, dqkv);
    } else {
        own_attention_backward(handle_of(stream), scratch_, shape, dout, qkv, out, lse, dqkv);
    }
}

}  // namespace trireme
