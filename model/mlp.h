#pragma once

#include "model/branch.h"
#include "model/linear.h"
#include "model/norm.h"

namespace trireme {

// The feed-forward layer with its norm and residual: GELU (gpt2) or SwiGLU (llama), the inner
// features split over the tensor ranks.
class MlpBranch {
public:
    struct Activations {
        Norm::Statistics norm;
        Tensor normed;     // [tokens, C] all tokens
        Tensor expanded;   // [tokens, F] or gate | up [tokens, 2F], this rank's features
        Tensor activated;  // [tokens, F]
    };

    MlpBranch(const ModelContext& context, ParameterStore& store, const std::string& name);

    Activations take_activations(Arena& arena) const;
    BranchGradients take_gradients(Arena& arena) const;

    // As AttentionBranch.
    void forward(const MicroBatchContext& micro_batch, const Tensor& x, const Activations& saved,
                 const BranchScratch& scratch, const Tensor& out) const;
    void backward(const MicroBatchContext& micro_batch, const Tensor& x, const Activations& saved,
                  const BranchScratch& scratch, BranchGradients& gradients, const Tensor& dresidual,
                  bool with_weights) const;
    void backward_weight(const Activations& saved, const BranchGradients& gradients) const;
    void collect_parameters(std::vector<int>& indices) const;

private:
    bool is_gated() const { return context_.model.family == Family::llama; }
    int64_t expanded_width() const { return (is_gated() ? 2 : 1) * context_.local_ffn(); }

    const ModelContext& context_;
    PhiloxKey residual_key_;
    Norm norm_;
    ColumnParallelLinear expand_;
    RowParallelLinear contract_;
};

}  // namespace trireme
