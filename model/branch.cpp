#include "model/branch.h"

#include <algorithm>
#include <cmath>

#include "model/tensor_parallel.h"

namespace trireme {

Dropout residual_dropout(const ModelContext& context, const MicroBatchContext& micro_batch,
                         PhiloxKey key) {
    Dropout dropout;
    dropout.probability = micro_batch.training ? context.model.dropout : 0.0f;
    dropout.key = key;
    dropout.stream = static_cast<uint64_t>(micro_batch.step);
    dropout.first_element = static_cast<uint64_t>(
        (micro_batch.first_sample * context.sequence + context.first_local_token()) *
        context.model.hidden);
    return dropout;
}

BranchScratch BranchScratch::take(const ModelContext& context, Arena& arena) {
    const int64_t widest =
        std::max(context.local_ffn(), int64_t{context.local_heads()} * context.model.head_dim);
    return {arena.take(context.compute, {context.tokens(), context.model.hidden}),
            arena.take(context.compute, {context.tokens(), widest})};
}

Branch::Branch(const ModelContext& context, ParameterStore& store, const Layout& layout)
    : context_(context),
      inner_width_(layout.inner_features / context.tensor_size()),
      statistics_(layout.statistics),
      dropout_key_(make_key(context.seed, "dropout/" + layout.layer + "." + layout.name)),
      store_(store),
      norm_(context, store, layout.layer + "." + layout.name + "_norm"),
      column_(context, store, layout.columns, context.model.hidden,
              context.model.family == Family::gpt2),
      row_(context, store, layout.layer + "." + layout.name + "." + layout.row_name,
           context.model.hidden, layout.inner_features, context.model.family == Family::gpt2,
           context.model.init_std / std::sqrt(2.0f * static_cast<float>(context.model.layers))) {
    for (const ColumnPart& part : layout.columns) column_width_ += part.local_rows;
}

BranchActivations Branch::take_activations(Arena& arena, Recompute policy,
                                           const BranchActivations& working_set) const {
    if (policy == Recompute::none) return take_working_set(arena);
    BranchActivations saved = working_set;
    if (policy == Recompute::selective) {
        saved.column = arena.take(context_.compute, {context_.tokens(), column_width_});
    }
    return saved;
}

BranchActivations Branch::take_working_set(Arena& arena) const {
    BranchActivations saved;
    saved.norm = norm_.take_statistics(arena);
    saved.normed = arena.take(context_.compute, {context_.tokens(), context_.model.hidden});
    saved.column = arena.take(context_.compute, {context_.tokens(), column_width_});
    saved.inner = arena.take(context_.compute, {context_.tokens(), inner_width_});
    if (statistics_.rank() > 0) saved.statistics = arena.take(DType::f32, statistics_);
    return saved;
}

BranchGradients Branch::take_gradients(Arena& arena, Recompute policy) const {
    const Shape residual{context_.tokens(), context_.model.hidden};
    BranchGradients gradients;
    gradients.output = arena.take(context_.compute, residual);
    gradients.column = arena.take(context_.compute, {context_.tokens(), column_width_});
    if (policy == Recompute::none) return gradients;
    gradients.normed = arena.take(context_.compute, residual);
    gradients.inner = arena.take(context_.compute, {context_.tokens(), inner_width_});
    return gradients;
}

void Branch::forward(const MicroBatchContext& micro_batch, const Tensor& x,
                     const BranchActivations& saved, const BranchScratch& scratch,
                     const Tensor& out) const {
    const ParameterUse use(store_, any_matrix());
    const Tensor normed_local = local_slice(context_, saved.normed);
    norm_.forward(x, normed_local, saved.norm);
    inner_forward(micro_batch, gather_tokens(context_, normed_local, saved.normed, "branch input"),
                  saved);
    row_.forward(saved.inner, scratch.partial);
    TokenReduction sum(context_, scratch.partial, local_slice(context_, scratch.partial),
                       "branch output");
    context_.ops().residual_add_forward(context_.stream(), x, sum.wait(), row_.bias(),
                                        residual_dropout(context_, micro_batch, dropout_key_), out);
}

void Branch::recompute(const MicroBatchContext& micro_batch, const Tensor& x,
                       const BranchActivations& saved, Recompute policy) const {
    if (policy == Recompute::none) return;
    const Tensor normed_local = local_slice(context_, saved.normed);
    norm_.forward(x, normed_local, saved.norm);
    const Tensor normed =
        gather_tokens(context_, normed_local, saved.normed, "branch input, again");
    if (policy == Recompute::full) {
        const ParameterUse use(store_, any_matrix());
        inner_forward(micro_batch, normed, saved);
    } else {
        interior_forward(micro_batch, saved);
    }
}

// On all tokens, from the gradient of the residual stream on this rank's: through the dropout,
// then gathered into `buffer`. Returns dresidual itself where that is the same, unless `keep`:
// then the result is always in the buffer and survives changes to dresidual.
Tensor Branch::output_gradient(const MicroBatchContext& micro_batch, const Tensor& dresidual,
                               const Tensor& buffer, bool keep) const {
    const Dropout dropout = residual_dropout(context_, micro_batch, dropout_key_);
    const char* label = "branch output gradient";
    if (dropout.probability > 0.0f || (keep && !context_.is_sharded_by_token())) {
        const Tensor local = local_slice(context_, buffer);
        context_.ops().dropout_apply(context_.stream(), dresidual, dropout, local);
        return gather_tokens(context_, local, buffer, label);
    }
    return gather_tokens(context_, dresidual, buffer, label);
}

void Branch::backward(const MicroBatchContext& micro_batch, const Tensor& x,
                      const BranchActivations& saved, const BranchScratch& scratch,
                      const BranchGradients& gradients, const Tensor& dresidual,
                      bool with_weights) const {
    const ParameterUse use(store_, any_matrix());
    const Tensor doutput = output_gradient(micro_batch, dresidual, gradients.output, !with_weights);
    const Tensor dinner =
        scratch.inner.flat_range(0, saved.inner.elements()).reshaped(saved.inner.shape);
    if (with_weights) {
        store_.open_gradients(any_matrix());
        row_.backward_weight(doutput, saved.inner);
    }
    inner_backward(micro_batch, saved, doutput, dinner, gradients.column);
    column_.backward_input(gradients.column, scratch.partial);
    // The weight gradient hides the sum over the tensor ranks.
    TokenReduction sum(context_, scratch.partial, local_slice(context_, scratch.partial),
                       "branch input gradient");
    if (with_weights) {
        column_.backward_weight(gradients.column, saved.normed);
        store_.close_gradients(any_matrix());
    }
    norm_.backward(sum.wait(), x, saved.norm, dresidual);
}

void Branch::backward_weight(const BranchActivations& saved,
                             const BranchGradients& gradients) const {
    store_.open_gradients(any_matrix());
    row_.backward_weight(gradients.output, gradients.inner ? gradients.inner : saved.inner);
    column_.backward_weight(gradients.column, gradients.normed ? gradients.normed : saved.normed);
    store_.close_gradients(any_matrix());
}

void Branch::collect_parameters(std::vector<int>& indices) const {
    norm_.collect_parameters(indices);
    column_.collect_parameters(indices);
    row_.collect_parameters(indices);
}

}  // namespace trireme
