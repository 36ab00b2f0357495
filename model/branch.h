#pragma once

#include <string>

#include "core/arena.h"
#include "model/model_context.h"

namespace trireme {

// A block is two residual branches, attention and MLP: x + dropout(row(...column(norm(x)))).
// What both share stands here.

// Buffers that live for one call; a chunk has one set for all its layers.
struct BranchScratch {
    Tensor partial;  // [tokens, C] sums over the tensor ranks in the making
    Tensor inner;    // [tokens, widest branch interior] gradient inside the branch

    static BranchScratch take(const ModelContext& context, Arena& arena);
};

// Gradients that the weight half needs after the input half has run. One set a chunk serves while
// both halves run together; a schedule that splits them needs one for each slot and layer.
struct BranchGradients {
    Tensor output;  // [tokens, C] of the branch's output, all tokens
    Tensor column;  // [tokens, width] of the column-parallel layer's output
};

// The residual dropout at a place of the model, for this rank's tokens of a micro-batch.
Dropout residual_dropout(const ModelContext& context, const MicroBatchContext& micro_batch,
                         PhiloxKey key);

// Gradient of a branch's output on all tokens, from that of the residual stream on this rank's:
// through the dropout, then gathered into `buffer`. Returns dresidual itself where that is the
// same, unless `keep`: then the result is always in the buffer and survives changes to dresidual.
Tensor branch_output_gradient(const ModelContext& context, const Tensor& dresidual,
                              const Dropout& dropout, const Tensor& buffer, bool keep,
                              const char* label);

}  // namespace trireme
