#pragma once

#include <string>
#include <vector>

#include "model/attention.h"
#include "model/mlp.h"

namespace trireme {

// One transformer layer: attention, then MLP, on the residual stream.
class Block {
public:
    struct Activations {
        BranchActivations attention;
        BranchActivations mlp;
        Tensor middle;  // [local tokens, C] residual stream between the branches
        Tensor output;  // [local tokens, C]
    };
    struct Gradients {
        BranchGradients attention;
        BranchGradients mlp;
    };
    // What layers that compute again share: see BranchActivations.
    struct WorkingSet {
        BranchActivations attention;
        BranchActivations mlp;
        Tensor middle;  // [local tokens, C]
    };

    // layer: its number in the whole model. policy: what its backward computes again.
    Block(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
          int layer, Recompute policy);

    // working_set: may be empty where nothing is computed again.
    Activations take_activations(Arena& arena, const WorkingSet& working_set) const;
    WorkingSet take_working_set(Arena& arena) const;
    // As that of AttentionBranch; nothing where the activations are this block's own.
    void take_kv_cache(Arena& arena, Activations& activations) const;
    // is_split: for a weight half that runs apart from the input half.
    Gradients take_gradients(Arena& arena, bool is_split) const;

    // As those of Branch.
    NormedTokens normed_tokens(const Activations& saved) const;
    void forward(const MicroBatchContext& micro_batch, const Tensor& x, NormedTokens& normed,
                 const Activations& saved, NormedTokens* next) const;
    // As those of Branch. What the policy has not kept is computed again first.
    TokenGather begin_backward(const BackwardPass& pass, const Gradients& gradients) const;
    TokenGather backward(const BackwardPass& pass, const Tensor& x, const Activations& saved,
                         const Gradients& gradients, TokenGather& doutput) const;
    void finish_backward(const Gradients& gradients, TokenGather& normed) const;
    void backward_weight(const Activations& saved, const Gradients& gradients) const;
    void collect_parameters(std::vector<int>& indices) const;
    // Parameters of which forward and backward make a ParameterUse, in that order.
    void list_forward_uses(std::vector<int>& indices) const;
    void list_backward_uses(std::vector<int>& indices) const;

private:
    const ModelContext& context_;
    const Recompute policy_;
    AttentionBranch attention_;
    MlpBranch mlp_;
};

}  // namespace trireme
