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

MlpBranch::MlpBranch(const ModelContext& context, ParameterStore& store, const std::string& layer)
    : Branch(context, store,
             {.layer = layer,
              .name = "mlp",
              .row_name = "down",
              .columns = expand_parts(context, layer + ".mlp"),
              .inner_features = context.model.ffn_hidden,
              .statistics = {}}) {}

void MlpBranch::inner_forward(const MicroBatchContext&, const Tensor& normed,
                              const BranchActivations& saved) const {
    if (is_gated()) {
        column().forward(normed, saved.column);
        context_.ops().swiglu_forward(context_.stream(), saved.column, saved.inner);
    } else {
        column().forward_gelu(normed, saved.column, saved.inner);
    }
}

void MlpBranch::interior_forward(const MicroBatchContext&, const BranchActivations& saved) const {
    if (is_gated()) {
        context_.ops().swiglu_forward(context_.stream(), saved.column, saved.inner);
    } else {
        context_.ops().gelu_forward(context_.stream(), saved.column, saved.inner);
    }
}

void MlpBranch::inner_backward(const MicroBatchContext&, const BranchActivations& saved,
                               const Tensor& doutput, const Tensor& dinner,
                               const Tensor& dcolumn) const {
    if (is_gated()) {
        row().backward_input(doutput, dinner);
        context_.ops().swiglu_backward(context_.stream(), dinner, saved.column, dcolumn);
    } else {
        row().backward_input_gelu(doutput, saved.column, dcolumn);
    }
}

}  // namespace trireme
