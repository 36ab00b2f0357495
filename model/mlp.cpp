#include "model/mlp.h"

#include <cmath>

#include "model/tensor_parallel.h"

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

MlpBranch::MlpBranch(const ModelContext& context, ParameterStore& store, const std::string& name)
    : context_(context),
      residual_key_(make_key(context.seed, "dropout/" + name + ".mlp")),
      norm_(context, store, name + ".mlp_norm"),
      expand_(context, store, expand_parts(context, name + ".mlp"), context.model.hidden,
              context.model.family == Family::gpt2),
      contract_(
          context, store, name + ".mlp.down", context.model.hidden, context.model.ffn_hidden,
          context.model.family == Family::gpt2,
          context.model.init_std / std::sqrt(2.0f * static_cast<float>(context.model.layers))) {}

MlpBranch::Activations MlpBranch::take_activations(Arena& arena) const {
    const int64_t tokens = context_.tokens();
    return {norm_.take_statistics(arena),
            arena.take(context_.compute, {tokens, context_.model.hidden}),
            arena.take(context_.compute, {tokens, expanded_width()}),
            arena.take(context_.compute, {tokens, context_.local_ffn()})};
}

BranchGradients MlpBranch::take_gradients(Arena& arena) const {
    return {arena.take(context_.compute, {context_.tokens(), context_.model.hidden}),
            arena.take(context_.compute, {context_.tokens(), expanded_width()})};
}

void MlpBranch::forward(const MicroBatchContext& micro_batch, const Tensor& x,
                        const Activations& saved, const BranchScratch& scratch,
                        const Tensor& out) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    const Tensor normed_local = local_slice(context_, saved.normed);
    norm_.forward(x, normed_local, saved.norm);
    const Tensor normed = gather_tokens(context_, normed_local, saved.normed, "mlp input");
    expand_.forward(normed, saved.expanded);
    if (is_gated()) {
        ops.swiglu_forward(stream, saved.expanded, saved.activated);
    } else {
        ops.gelu_forward(stream, saved.expanded, saved.activated);
    }
    contract_.forward(saved.activated, scratch.partial);
    TokenReduction sum(context_, scratch.partial, local_slice(context_, scratch.partial),
                       "mlp output");
    ops.residual_add_forward(stream, x, sum.wait(), contract_.bias(),
                             residual_dropout(context_, micro_batch, residual_key_), out);
}

void MlpBranch::backward(const MicroBatchContext& micro_batch, const Tensor& x,
                         const Activations& saved, const BranchScratch& scratch,
                         BranchGradients& gradients, const Tensor& dresidual,
                         bool with_weights) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    const Tensor doutput = branch_output_gradient(
        context_, dresidual, residual_dropout(context_, micro_batch, residual_key_),
        gradients.output, !with_weights, "mlp output gradient");
    const Tensor dactivated =
        scratch.inner.flat_range(0, saved.activated.elements()).reshaped(saved.activated.shape);
    contract_.backward_input(doutput, dactivated);
    if (with_weights) contract_.backward_weight(doutput, saved.activated);
    if (is_gated()) {
        ops.swiglu_backward(stream, dactivated, saved.expanded, gradients.column);
    } else {
        ops.gelu_backward(stream, dactivated, saved.expanded, gradients.column);
    }
    expand_.backward_input(gradients.column, scratch.partial);
    TokenReduction sum(context_, scratch.partial, local_slice(context_, scratch.partial),
                       "mlp input gradient");
    if (with_weights) expand_.backward_weight(gradients.column, saved.normed);
    norm_.backward(sum.wait(), x, saved.norm, dresidual);
}

void MlpBranch::backward_weight(const Activations& saved, const BranchGradients& gradients) const {
    contract_.backward_weight(gradients.output, saved.activated);
    expand_.backward_weight(gradients.column, saved.normed);
}

void MlpBranch::collect_parameters(std::vector<int>& indices) const {
    norm_.collect_parameters(indices);
    expand_.collect_parameters(indices);
    contract_.collect_parameters(indices);
}

}  // namespace trireme
