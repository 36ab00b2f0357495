#include "model/mlp.h"

namespace trireme {

namespace {

std::vector<ColumnPart> expand_parts(const ModelContext& context, const std::string& name) {
    const int64_t local = context.local_ffn();
    ColumnPart up{.name = name + ".up",
                  .global_rows = context.model.ffn_hidden,
                  .first_row = context.tensor_rank() * local,
                  .local_rows = local};
    if (context.model.family == Family::gpt2) return {up};
    ColumnPart gate = up;
    gate.name = name + ".gate";
    return {gate, up};
}

}  // namespace

MlpBranch::MlpBranch(const ModelContext& context, ParameterStore& store,
                     const ChunkBuffers& buffers, const std::string& layer)
    : Branch(context, store, buffers,
             {.layer = layer,
              .name = "mlp",
              .row_name = "down",
              .columns = expand_parts(context, layer + ".mlp"),
              .inner_features = context.model.ffn_hidden,
              .statistics = {},
              .column_bias = context.model.family == Family::gpt2}) {}

// GELU is part of the matmuls beside it.
void MlpBranch::column_forward(const Tensor& normed, const BranchActivations& part) const {
    if (is_gated()) {
        column().forward(normed, part.column);
    } else {
        column().forward_gelu(normed, part.column, part.inner);
    }
}

void MlpBranch::interior_forward(const MicroBatchContext&, const BranchActivations& part) const {
    if (is_gated()) context_.ops().swiglu_forward(context_.stream(), part.column, part.inner);
}

void MlpBranch::interior_again(const MicroBatchContext&, const BranchActivations& part) const {
    if (is_gated()) {
        context_.ops().swiglu_forward(context_.stream(), part.column, part.inner);
    } else {
        context_.ops().gelu_forward(context_.stream(), part.column, part.inner);
    }
}

void MlpBranch::row_backward(const Tensor& doutput, const BranchActivations& part,
                             const Tensor& dinner, const Tensor& dcolumn) const {
    if (is_gated()) {
        row().backward_input(doutput, dinner);
    } else {
        row().backward_input_gelu(doutput, part.column, dcolumn);
    }
}

void MlpBranch::interior_backward(const MicroBatchContext&, const BranchActivations& part,
                                  const Tensor& dinner, const Tensor& dcolumn) const {
    if (is_gated()) {
        context_.ops().swiglu_backward(context_.stream(), dinner, part.column, dcolumn);
    }
}

}  // namespace trireme
