#pragma once

#include <vector>

#include "core/ops.h"

namespace trireme {

// Attention kernels of one rank. Queries and keys are walked in blocks: forward keeps a running
// maximum and sum for each query (online softmax) and saves their log-sum-exp; backward makes the
// probabilities of a block again from it. Softmax, statistics and sums are f32. Products are f32
// too, except that AMX takes the factors of bf16 attention as bf16, for which probabilities and
// gradients of scores are rounded. Every element is written by one thread and summed in an order
// that depends on the shape alone, so that results have the same bits for any number of threads.
// Scratch memory, one piece a thread, grows to the largest shape seen and stays.
class CpuAttention {
public:
    // amx: take bf16 tensors to the AMX kernels; only where MatmulPlan says so.
    CpuAttention(int threads, bool amx);

    void forward(const AttentionShape& shape, const Tensor& qkv, const Tensor& out,
                 const Tensor& lse);
    void backward(const AttentionShape& shape, const Tensor& dout, const Tensor& qkv,
                  const Tensor& out, const Tensor& lse, const Tensor& dqkv);

private:
    // Scratch of `floats` f32 for every thread, 64-byte aligned.
    void reserve(int64_t floats);
    float* scratch(int thread) { return scratch_.data() + thread * stride_ + align_; }

    int threads_;
    bool amx_;
    std::vector<float> scratch_;
    int64_t stride_ = 0;
    int64_t align_ = 0;
};

}  // namespace trireme
