#include "core/attention_checks.h"
#include "core/cuda/attention.h"
#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/cudnn_attention.h"
#include "core/cuda/tensor_core_attention.h"

namespace trireme {

namespace {

bool takes_cudnn(CudnnAttention* cudnn, const AttentionShape& shape,
                 std::initializer_list<Tensor> activations) {
    if (!cudnn || shape.dropout.probability != 0.0f || shape.document_begin) return false;
    // The graphs are those of whole sequences, and every other length would need another.
    if (shape.first_query > 0) return false;
    return are_bf16_packs(activations) && cudnn->supports(shape);
}

}  // namespace

void CudaOps::attention_forward(Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                                const Tensor& out, const Tensor& lse) {
    check_attention(shape, qkv, out, lse);
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
    check_attention_backward(shape, dout, qkv, out, lse, dqkv);
    if (qkv.elements() == 0) return;
    // cuDNN adds up the gradients of queries in any order.
    if (!options_.deterministic && takes_cudnn(cudnn_.get(), shape, {dout, qkv, out, dqkv})) {
        cudnn_->backward(shape, dout, qkv, out, lse, dqkv);
    } else {
        own_attention_backward(handle_of(stream), scratch_, shape, dout, qkv, out, lse, dqkv);
    }
}

}  // namespace trireme
