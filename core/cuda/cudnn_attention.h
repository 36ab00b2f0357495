#pragma once

#include <memory>

#include "core/ops.h"

namespace trireme {

class CudaDevice;

// Causal attention by cuDNN's fused graphs, for bf16 without dropout. Plans are made at the first
// use of a shape and kept. Heads and key/value heads are read from and written to the packed
// [B, T, (heads + 2 kv_heads) * D] layout through strides, without copies.
class CudnnAttention {
public:
    virtual ~CudnnAttention() = default;

    // Whether cuDNN has kernels for this shape on this GPU.
    virtual bool supports(const AttentionShape& shape) = 0;

    // Shapes and types as in Ops::attention_forward and attention_backward.
    virtual void forward(const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                         const Tensor& lse) = 0;
    virtual void backward(const AttentionShape& shape, const Tensor& dout, const Tensor& qkv,
                          const Tensor& out, const Tensor& lse, const Tensor& dqkv) = 0;
};

// Null in a build without cuDNN.
std::unique_ptr<CudnnAttention> make_cudnn_attention(CudaDevice& device);

}  // namespace trireme
