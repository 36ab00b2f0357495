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

    // layer: its number in the whole model.
    Block(const ModelContext& context, ParameterStore& store, int layer, const Tensor& rope);

    Activations take_activations(Arena& arena) const;
    Gradients take_gradients(Arena& arena) const;

    void forward(const MicroBatchContext& micro_batch, const Tensor& x, const Activations& saved,
                 const BranchScratch& scratch) const;
    // dresidual: [local tokens, C], gradient of the output on entry, of x on return.
    void backward(const MicroBatchContext& micro_batch, const Tensor& x, const Activations& saved,
                  const BranchScratch& scratch, const Gradients& gradients, const Tensor& dresidual,
                  bool with_weights) const;
    void backward_weight(const Activations& saved, const Gradients& gradients) const;
    void collect_parameters(std::vector<int>& indices) const;

private:
    const ModelContext& context_;
    AttentionBranch attention_;
    MlpBranch mlp_;
};

}  // namespace trireme
