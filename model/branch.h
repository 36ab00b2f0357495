#pragma once

#include <string>
#include <vector>

#include "core/arena.h"
#include "model/chunk_buffers.h"
#include "model/linear.h"
#include "model/norm.h"
#include "model/normed_tokens.h"
#include "model/tensor_parallel.h"

namespace trireme {

// The residual dropout at a place of the model, for this rank's tokens of a piece.
Dropout residual_dropout(const ModelContext& context, const MicroBatchContext& micro_batch,
                         PhiloxKey key, int piece);

// What the weight half needs after the input half has run. One set a chunk serves while both halves
// run together; a schedule that splits them needs one for each slot and layer.
struct BranchGradients {
    Tensor output;  // [tokens, C] of the branch's output, all tokens
    Tensor column;  // [tokens, column width] of the column-parallel layer's output
    // Inputs of the two linear layers, where they were computed again and the halves run apart;
    // otherwise absent, and those of the activations are used.
    Tensor normed;  // [local tokens, C]
    Tensor inner;   // [tokens, inner width]
};

// What one micro-batch keeps of a branch for its backward pass. Tensors that are computed again
// there are those of a working set that all layers share.
struct BranchActivations {
    Norm::Statistics norm;
    Tensor normed;    // [local tokens, C] of the column-parallel layer's input
    Tensor column;    // [tokens, column width] its output, this rank's features; attention's is in
                      // the layout of HeadExchange where there is one
    Tensor prepared;  // as column: what the interior makes of it first; absent where it does so
                      // in column itself
    Tensor heads;     // attention's output before it is exchanged; absent where it is not
    Tensor inner;     // [tokens, inner width] input of the row-parallel layer
    Tensor statistics;  // of the interior: attention's log-sum-exp; absent otherwise
};

// What all branches of a chunk share in a micro-batch's backward pass. Refers to what must outlive
// it.
struct BackwardPass {
    const MicroBatchContext& micro_batch;
    // [local tokens, C] the gradient of the residual stream: of a branch's out before
    // Branch::backward, of its x after it.
    Tensor dresidual;
    // Adds the weight gradients as well; otherwise backward_weight does so later.
    bool with_weights;
};

// A block is two residual branches, attention and MLP:
//   out = x + dropout(row_parallel(interior(column_parallel(norm(x)))))
// All but the interior stands here. x, out and the residual's gradient hold this rank's tokens,
// [local tokens, C]; the branch gathers and reduces them over the tensor ranks, piece by piece
// beside the matmuls. The gathered input is not kept for backward but gathered again.
class Branch {
public:
    virtual ~Branch() = default;
    Branch(const Branch&) = delete;
    Branch& operator=(const Branch&) = delete;

    // working_set: of take_working_set, for what the policy computes again.
    BranchActivations take_activations(Arena& arena, Recompute policy,
                                       const BranchActivations& working_set) const;
    BranchActivations take_working_set(Arena& arena) const;
    // with_inputs: for a weight half that runs apart from a backward that computes again.
    BranchGradients take_gradients(Arena& arena, bool with_inputs) const;

    // The branch's first step, for whoever makes x to make as well. `saved` as in forward.
    NormedTokens normed_tokens(const BranchActivations& saved) const;
    // x has been made into `normed`, of normed_tokens. next: of what follows on out in this chunk,
    // to be made from out; null where nothing does.
    void forward(const MicroBatchContext& micro_batch, const Tensor& x, NormedTokens& normed,
                 const BranchActivations& saved, const Tensor& out, NormedTokens* next) const;
    // Computes again what the policy of this name has not kept, so that backward finds it. Gives
    // the same bits.
    void recompute_selective(const MicroBatchContext& micro_batch, const Tensor& x,
                             const BranchActivations& saved) const;
    // From `normed`. The gathered input is in the chunk's buffer afterwards.
    void recompute_full(const MicroBatchContext& micro_batch, NormedTokens& normed,
                        const BranchActivations& saved) const;
    // Backward, in three calls, so that the next branch's can begin before the last of this one's
    // compute, which hides its exchange. Nobody else touches pass.dresidual until backward has
    // returned. Fills `gradients`.
    TokenGather begin_backward(const BackwardPass& pass, const BranchGradients& gradients) const;
    // doutput: of begin_backward. is_gathered: the input is in the chunk's buffer. Returns the
    // input on its way there, for finish_backward, which is needed with_weights alone.
    TokenGather backward(const BackwardPass& pass, const Tensor& x, const BranchActivations& saved,
                         const BranchGradients& gradients, TokenGather& doutput,
                         bool is_gathered) const;
    void finish_backward(const BranchGradients& gradients, TokenGather& normed) const;
    void backward_weight(const BranchActivations& saved, const BranchGradients& gradients) const;
    virtual void collect_parameters(std::vector<int>& indices) const;
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
        bool column_bias = false;
        bool keeps_column = false;  // the interior needs it as it was: a tensor for `prepared`
        Shape kept_column = {};     // where it is kept in another shape than it is made in
        Shape heads = {};           // of that activation; none when empty
    };
    Branch(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
           const Layout& layout);

    // What lies between the linear layers, for a part of the tokens: a piece where that is enough
    // for it, otherwise all of them at once. `part` holds the part's rows, of all of them `saved`
    // itself, and the micro-batch's first sample is the part's. A back end may do some of it in one
    // pass with a linear layer, so the calls to those stand here too.
    virtual bool works_on_pieces() const = 0;
    // Where the column-parallel layer writes: saved.column or a buffer.
    virtual const Tensor& column_output(const BranchActivations& saved) const {
        return saved.column;
    }
    // normed -> part.column, of column_output
    virtual void column_forward(const Tensor& normed, const BranchActivations& part) const {
        column_.forward(normed, part.column);
    }
    // part.column, or all of column_output where that is a buffer, -> part.inner; with it what
    // backward needs of the rest, in part.column itself where that is not a buffer
    virtual void interior_forward(const MicroBatchContext& micro_batch,
                                  const BranchActivations& part) const = 0;
    // The same from part.column as interior_forward left it.
    virtual void interior_again(const MicroBatchContext& micro_batch,
                                const BranchActivations& part) const = 0;
    // doutput -> dinner, or at once dcolumn
    virtual void row_backward(const Tensor& doutput, const BranchActivations&, const Tensor& dinner,
                              const Tensor& /*dcolumn*/) const {
        row_.backward_input(doutput, dinner);
    }
    // dinner -> dcolumn
    virtual void interior_backward(const MicroBatchContext& micro_batch,
                                   const BranchActivations& part, const Tensor& dinner,
                                   const Tensor& dcolumn) const = 0;

    const ColumnParallelLinear& column() const { return column_; }
    const RowParallelLinear& row() const { return row_; }

    const ModelContext& context_;
    const ChunkBuffers& buffers_;

private:
    MicroBatchContext part_of(const MicroBatchContext& micro_batch, int piece) const;
    BranchActivations part_of(const BranchActivations& saved, int piece) const;
    template <typename Done>
    void inner_forward(const MicroBatchContext& micro_batch, NormedTokens& normed,
                       const BranchActivations& saved, const Done& done) const;
    int64_t column_width_ = 0;
    int64_t inner_width_ = 0;
    Shape statistics_;
    bool keeps_column_;
    Shape kept_column_, heads_;
    PhiloxKey dropout_key_;
    ParameterStore& store_;
    Norm norm_;
    ColumnParallelLinear column_;
    RowParallelLinear row_;
};

}  // namespace trireme
