#pragma once

#include <cuda_runtime.h>

#include "core/cuda/scratch.h"
#include "core/ops.h"

namespace trireme {

// Attention by the project's own kernels: any head dimension, f32 and bf16, dropout, documents kept
// apart, and the same bits in every run. On tensor cores where takes_tensor_cores() says so, else
// with plain f32 products. Shapes and types as in Ops, already checked. What backward is given may
// come of another forward, such as cuDNN's.
void own_attention_forward(cudaStream_t stream, const AttentionShape& shape, const Tensor& qkv,
                           const Tensor& out, const Tensor& lse);
void own_attention_backward(cudaStream_t stream, Scratch& scratch, const AttentionShape& shape,
                            const Tensor& dout, const Tensor& qkv, const Tensor& out,
                            const Tensor& lse, const Tensor& dqkv);

}  // namespace trireme
