#pragma once

#include "model/branch.h"

namespace trireme {

// Causal grouped-query self-attention; the heads are split over the tensor ranks.
class AttentionBranch final : public Branch {
public:
    // layer: "layers.0". rope: [T_max, 2, D / 2], absent for learned positions; read when used.
    AttentionBranch(const ModelContext& context, ParameterStore& store, const std::string& layer,
                    const Tensor& rope);

private:
    // column: [tokens, (heads + 2 kv_heads) * D] after RoPE; inner: [tokens, heads * D];
    // statistics: log-sum-exp [B, heads, T].
    void inner_forward(const MicroBatchContext& micro_batch, const Tensor& normed,
                       const BranchActivations& saved) const override;
    void interior_forward(const MicroBatchContext& micro_batch,
                          const BranchActivations& saved) const override;
    void inner_backward(const MicroBatchContext& micro_batch, const BranchActivations& saved,
                        const Tensor& doutput, const Tensor& dinner,
                        const Tensor& dcolumn) const override;
    AttentionShape shape(const MicroBatchContext& micro_batch) const;
    Tensor by_sequence(const Tensor& qkv) const;  // [B, T, width]

    PhiloxKey probability_key_;
    const Tensor& rope_;
};

}  // namespace trireme
