#pragma once

#include <cuda_runtime.h>

#include <initializer_list>

#include "core/ops.h"

namespace trireme {

// Whether all of them are bf16 at 16-byte addresses, as tensor cores want them, cuDNN's too.
bool are_bf16_packs(std::initializer_list<Tensor> activations);

// Attention on tensor cores by the project's own kernels: bf16, heads of a multiple of 8 and at
// most 128 elements at 16-byte addresses, and a positive scale. Products have bf16 factors,
// probabilities and the gradients of scores among them, and f32 sums. After FlashAttention-2 (Dao,
// 2023, arXiv:2307.08691), with a backward in two kernels instead of one, so that every sum has one
// order.
bool takes_tensor_cores(const AttentionShape& shape, std::initializer_list<Tensor> activations);

// Shapes and types as in Ops, already checked and taken.
void tensor_core_attention_forward(cudaStream_t stream, const AttentionShape& shape,
                                   const Tensor& qkv, const Tensor& out, const Tensor& lse);
// delta: [batch, heads, sequence] f32, dout . out of each query.
void tensor_core_attention_backward(cudaStream_t stream, const AttentionShape& shape,
                                    const Tensor& dout, const Tensor& qkv, const Tensor& lse,
                                    const float* delta, const Tensor& dqkv);

}  // namespace trireme
