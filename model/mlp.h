#pragma once

#include "model/branch.h"

namespace trireme {

// The feed-forward layer: GELU (gpt2) or SwiGLU (llama), the inner features split over the tensor
// ranks.
class MlpBranch final : public Branch {
public:
    // layer: "layers.0"
    MlpBranch(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
              const std::string& layer);

private:
    // column: [tokens, F] or gate | up [tokens, 2F]; inner: [tokens, F].
    bool works_on_pieces() const override { return true; }
    void column_forward(const Tensor& normed, const BranchActivations& part) const override;
    void interior_forward(const MicroBatchContext& micro_batch,
                          const BranchActivations& part) const override;
    void interior_again(const MicroBatchContext& micro_batch,
                        const BranchActivations& part) const override;
    void row_backward(const Tensor& doutput, const BranchActivations& part, const Tensor& dinner,
                      const Tensor& dcolumn) const override;
    void interior_backward(const MicroBatchContext& micro_batch, const BranchActivations& part,
                           const Tensor& dinner, const Tensor& dcolumn) const override;
    bool is_gated() const { return context_.model.family == Family::llama; }
};

}  // namespace trireme
