#pragma once

#include <optional>

#include "model/branch.h"
#include "model/head_norm.h"

namespace trireme {

// Causal grouped-query self-attention; the heads are split over the tensor ranks.
class AttentionBranch final : public Branch {
public:
    // layer: "layers.0". rope: [T_max, 2, D / 2], absent for learned positions; read when used.
    AttentionBranch(const ModelContext& context, ParameterStore& store, const std::string& layer,
                    const Tensor& rope);

    void collect_parameters(std::vector<int>& indices) const override;

private:
    // column: [tokens, (heads + 2 kv_heads) * D] after RoPE, or with a norm of the heads before it,
    // and prepared after both; inner: [tokens, heads * D]; statistics: log-sum-exp [B, heads, T].
    // Works on whole sequences.
    bool works_on_pieces() const override { return context_.batch % context_.pieces == 0; }
    void interior_forward(const MicroBatchContext& micro_batch,
                          const BranchActivations& part) const override;
    void interior_again(const MicroBatchContext& micro_batch,
                        const BranchActivations& part) const override;
    void interior_backward(const MicroBatchContext& micro_batch, const BranchActivations& part,
                           const Tensor& dinner, const Tensor& dcolumn) const override;
    // first_sample and document_begin of the micro-batch are those of these tokens.
    AttentionShape shape(const MicroBatchContext& micro_batch, int64_t tokens) const;
    Tensor by_sequence(const Tensor& qkv) const;  // [B, T, width]
    // What attention reads.
    const Tensor& attended(const BranchActivations& part) const {
        return head_norm_ ? part.prepared : part.column;
    }
    void rotate(const Tensor& qkv) const;
    void attend(const MicroBatchContext& micro_batch, const BranchActivations& part) const;

    std::optional<HeadNorm> head_norm_;
    PhiloxKey probability_key_;
    const Tensor& rope_;
};

}  // namespace trireme
