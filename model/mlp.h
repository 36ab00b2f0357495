#pragma once

#include "model/branch.h"

namespace trireme {

// The feed-forward layer: GELU (gpt2) or SwiGLU (llama), the inner features split over the tensor
// ranks.
class MlpBranch final : public Branch {
public:
    // layer: "layers.0"
    MlpBranch(const ModelContext& context, ParameterStore& store, const std::string& layer);

private:
    // column: [tokens, F] or gate | up [tokens, 2F]; inner: [tokens, F].
    void inner_forward(const MicroBatchContext& micro_batch, const Tensor& normed,
                       const BranchActivations& saved) const override;
    void interior_forward(const MicroBatchContext& micro_batch,
                          const BranchActivations& saved) const override;
    void inner_backward(const MicroBatchContext& micro_batch, const BranchActivations& saved,
                        const Tensor& doutput, const Tensor& dinner,
                        const Tensor& dcolumn) const override;
    bool is_gated() const { return context_.model.family == Family::llama; }
};

}  // namespace trireme
