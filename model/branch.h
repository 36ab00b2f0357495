#pragma once

#include <string>
#include <vector>

#include "core/arena.h"
#include "model/linear.h"
#include "model/norm.h"

namespace trireme {

// The residual dropout at a place of the model, for this rank's tokens of a micro-batch.
Dropout residual_dropout(const ModelContext& context, const MicroBatchContext& micro_batch,
                         PhiloxKey key);

// Buffers that live for one call; a chunk has one set for all its layers.
struct BranchScratch {
    Tensor partial;  // [tokens, C] sums over the tensor ranks in the making
    Tensor inner;    // [tokens, widest row-parallel input] its gradient

    static BranchScratch take(const ModelContext& context, Arena& arena);
};

// What the weight half needs after the input half has run. One set a chunk serves while both halves
// run together; a schedule that splits them needs one for each slot and layer.
struct BranchGradients {
    Tensor output;  // [tokens, C] of the branch's output, all tokens
    Tensor column;  // [tokens, column width] of the column-parallel layer's output
    // Inputs of the two linear layers, where they were computed again and the halves run apart;
    // otherwise absent, and those of the activations are used.
    Tensor normed;  // [tokens, C]
    Tensor inner;   // [tokens, inner width]
};

// What one micro-batch keeps of a branch for its backward pass. Tensors that are computed again
// there are those of a working set that all layers share.
struct BranchActivations {
    Norm::Statistics norm;
    Tensor normed;      // [tokens, C] input of the column-parallel layer, all tokens
    Tensor column;      // [tokens, column width] its output, this rank's features
    Tensor inner;       // [tokens, inner width] input of the row-parallel layer
    Tensor statistics;  // of the interior: attention's log-sum-exp; absent otherwise
};

// A block is two residual branches, attention and MLP:
//   out = x + dropout(row_parallel(interior(column_parallel(norm(x)))))
// All but the interior stands here; it runs the linear layers on its two sides, because a back end
// may do them in one pass with it. x, out and the residual's gradient hold this rank's tokens,
// [local tokens, C]; the branch gathers and reduces them over the tensor ranks.
class Branch {
public:
    virtual ~Branch() = default;
    Branch(const Branch&) = delete;
    Branch& operator=(const Branch&) = delete;

    // working_set: of take_working_set, for what the policy computes again.
    BranchActivations take_activations(Arena& arena, Recompute policy,
                                       const BranchActivations& working_set) const;
    BranchActivations take_working_set(Arena& arena) const;
    // policy: not none when the weight half runs apart from a backward that computes again.
    BranchGradients take_gradients(Arena& arena, Recompute policy) const;

    void forward(const MicroBatchContext& micro_batch, const Tensor& x,
                 const BranchActivations& saved, const BranchScratch& scratch,
                 const Tensor& out) const;
    // Computes again what `policy` has not kept, so that backward finds it. Gives the same bits.
    void recompute(const MicroBatchContext& micro_batch, const Tensor& x,
                   const BranchActivations& saved, Recompute policy) const;
    // dresidual: gradient of out on entry, of x on return. Fills `gradients`; with_weights: adds
    // the weight gradients as well, otherwise backward_weight does so later from `gradients`.
    void backward(const MicroBatchContext& micro_batch, const Tensor& x,
                  const BranchActivations& saved, const BranchScratch& scratch,
                  const BranchGradients& gradients, const Tensor& dresidual,
                  bool with_weights) const;
    void backward_weight(const BranchActivations& saved, const BranchGradients& gradients) const;
    void collect_parameters(std::vector<int>& indices) const;
    // One of the matrices, which with their biases are used together (see ParameterUse): once in
    // forward and backward, and in recompute where that is full.
    int any_matrix() const { return column_.weight_parameter(); }

protected:
    struct Layout {
        std::string layer;     // "layers.0"
        std::string name;      // "attention"
        std::string row_name;  // "output"
        std::vector<ColumnPart> columns;
        int64_t inner_features = 0;  // of the whole model
        Shape statistics;            // f32; none when empty
    };
    Branch(const ModelContext& context, ParameterStore& store, const Layout& layout);

    // From `normed`, all tokens, through column() and the interior: fills saved.column and
    // saved.inner.
    virtual void inner_forward(const MicroBatchContext& micro_batch, const Tensor& normed,
                               const BranchActivations& saved) const = 0;
    // From saved.column, as inner_forward left it, to saved.inner (and statistics).
    virtual void interior_forward(const MicroBatchContext& micro_batch,
                                  const BranchActivations& saved) const = 0;
    // From the gradient of row()'s output back to that of column()'s. dinner: room for the gradient
    // of saved.inner.
    virtual void inner_backward(const MicroBatchContext& micro_batch,
                                const BranchActivations& saved, const Tensor& doutput,
                                const Tensor& dinner, const Tensor& dcolumn) const = 0;

    const ColumnParallelLinear& column() const { return column_; }
    const RowParallelLinear& row() const { return row_; }

    const ModelContext& context_;

private:
    Tensor output_gradient(const MicroBatchContext& micro_batch, const Tensor& dresidual,
                           const Tensor& buffer, bool keep) const;

    int64_t column_width_ = 0;
    int64_t inner_width_ = 0;
    Shape statistics_;
    PhiloxKey dropout_key_;
    ParameterStore& store_;
    Norm norm_;
    ColumnParallelLinear column_;
    RowParallelLinear row_;
};

}  // namespace trireme
