#pragma once

#include "model/branch.h"
#include "model/linear.h"
#include "model/norm.h"

namespace trireme {

// Causal self-attention with its norm and residual; the heads are split over the tensor ranks.
class AttentionBranch {
public:
    // What one micro-batch keeps for the backward pass.
    struct Activations {
        Norm::Statistics norm;
        Tensor normed;    // [tokens, C] input of the projections, all tokens
        Tensor qkv;       // [tokens, (heads + 2 kv_heads) * D] after RoPE, this rank's heads
        Tensor attended;  // [tokens, heads * D]
        Tensor lse;       // [B, heads, T] f32
    };

    // name: "layers.0". rope: [T_max, 2, D / 2], absent for learned positions.
    AttentionBranch(const ModelContext& context, ParameterStore& store, const std::string& name,
                    const Tensor& rope);

    Activations take_activations(Arena& arena) const;
    BranchGradients take_gradients(Arena& arena) const;

    // out = x + branch(x), on this rank's tokens [local tokens, C].
    void forward(const MicroBatchContext& micro_batch, const Tensor& x, const Activations& saved,
                 const BranchScratch& scratch, const Tensor& out) const;
    // dresidual: gradient of out on entry, of x on return. Fills `gradients`; with_weights: adds
    // the weight gradients as well, otherwise backward_weight does so later from `gradients`.
    void backward(const MicroBatchContext& micro_batch, const Tensor& x, const Activations& saved,
                  const BranchScratch& scratch, BranchGradients& gradients, const Tensor& dresidual,
                  bool with_weights) const;
    void backward_weight(const Activations& saved, const BranchGradients& gradients) const;
    void collect_parameters(std::vector<int>& indices) const;

private:
    int64_t qkv_width() const;
    AttentionShape shape(const MicroBatchContext& micro_batch) const;

    const ModelContext& context_;
    PhiloxKey residual_key_, probability_key_;
    Norm norm_;
    ColumnParallelLinear qkv_;
    RowParallelLinear output_;
    const Tensor& rope_;
};

}  // namespace trireme
