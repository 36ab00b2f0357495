#include "model/branch.h"

#include <cmath>

namespace trireme {

Dropout residual_dropout(const ModelContext& context, const MicroBatchContext& micro_batch,
                         PhiloxKey key, int piece) {
    Dropout dropout;
    dropout.probability = micro_batch.training ? context.model.dropout : 0.0f;
    dropout.key = key;
    dropout.stream = static_cast<uint64_t>(micro_batch.step);
    dropout.first_element = static_cast<uint64_t>(
        (micro_batch.first_sample * context.sequence + context.first_token(piece)) *
        context.model.hidden);
    return dropout;
}

Branch::Branch(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
               const Layout& layout)
    : context_(context),
      buffers_(buffers),
      inner_width_(layout.inner_features / context.tensor_size()),
      statistics_(layout.statistics),
      keeps_column_(layout.keeps_column),
      heads_(layout.heads),
      dropout_key_(make_key(context.seed, "dropout/" + layout.layer + "." + layout.name)),
      store_(store),
      norm_(context, store, layout.layer + "." + layout.name + "_norm"),
      column_(context, store, layout.columns, context.model.hidden, layout.column_bias),
      row_(context, store, layout.layer + "." + layout.name + "." + layout.row_name,
           context.model.hidden, layout.inner_features, context.model.family == Family::gpt2,
           context.model.init_std / std::sqrt(2.0f * static_cast<float>(context.model.layers))) {
    for (const ColumnPart& part : layout.columns) column_width_ += part.local_rows;
    kept_column_ =
        layout.kept_column.rank() > 0 ? layout.kept_column : Shape{context.tokens(), column_width_};
}

BranchActivations Branch::take_activations(Arena& arena, Recompute policy,
                                           const BranchActivations& working_set) const {
    if (policy == Recompute::none) return take_working_set(arena);
    BranchActivations saved = working_set;
    if (policy == Recompute::selective) {
        saved.column = arena.take(context_.compute, kept_column_);
    }
    return saved;
}

BranchActivations Branch::take_working_set(Arena& arena) const {
    BranchActivations saved;
    saved.norm = norm_.take_statistics(arena);
    saved.normed = arena.take(context_.compute, {context_.local_tokens(), context_.model.hidden});
    saved.column = arena.take(context_.compute, kept_column_);
    if (keeps_column_) saved.prepared = arena.take(context_.compute, kept_column_);
    if (heads_.rank() > 0) saved.heads = arena.take(context_.compute, heads_);
    saved.inner = arena.take(context_.compute, {context_.tokens(), inner_width_});
    if (statistics_.rank() > 0) saved.statistics = arena.take(DType::f32, statistics_);
    return saved;
}

BranchGradients Branch::take_gradients(Arena& arena, bool with_inputs) const {
    BranchGradients gradients;
    gradients.output = arena.take(context_.compute, {context_.tokens(), context_.model.hidden});
    gradients.column = arena.take(context_.compute, {context_.tokens(), column_width_});
    if (!with_inputs) return gradients;
    gradients.normed =
        arena.take(context_.compute, {context_.local_tokens(), context_.model.hidden});
    gradients.inner = arena.take(context_.compute, {context_.tokens(), inner_width_});
    return gradients;
}

// Attention, for which alone the sample matters, works on pieces that are whole sequences.
MicroBatchContext Branch::part_of(const MicroBatchContext& micro_batch, int piece) const {
    MicroBatchContext part = micro_batch;
    part.first_sample += piece * (context_.batch / context_.pieces);
    if (part.document_begin) {
        const int64_t tokens = context_.tokens() / context_.pieces;
        part.document_begin = part.document_begin.flat_range(piece * tokens, tokens);
    }
    return part;
}

BranchActivations Branch::part_of(const BranchActivations& saved, int piece) const {
    BranchActivations part;
    part.column = piece_of(context_, column_output(saved), piece);
    part.inner = piece_of(context_, saved.inner, piece);
    if (!works_on_pieces()) return part;
    if (saved.prepared) part.prepared = piece_of(context_, saved.prepared, piece);
    if (saved.statistics) {
        const int64_t elements = saved.statistics.elements() / context_.pieces;
        part.statistics =
            saved.statistics.flat_range(piece * elements, elements)
                .reshaped({statistics_[0] / context_.pieces, statistics_[1], statistics_[2]});
    }
    return part;
}

NormedTokens Branch::normed_tokens(const BranchActivations& saved) const {
    return {context_,          norm_,
            saved.normed,      saved.norm,
            buffers_.gathered, NormedTokens::Gather::at_once,
            "branch input"};
}

// From `normed` to saved.inner; done(piece) is called as each piece of that is there.
template <typename Done>
void Branch::inner_forward(const MicroBatchContext& micro_batch, NormedTokens& normed,
                           const BranchActivations& saved, const Done& done) const {
    for (int piece = 0; piece < context_.pieces; ++piece) {
        const BranchActivations part = part_of(saved, piece);
        column_forward(normed.wait(piece), part);
        if (!works_on_pieces()) continue;
        interior_forward(part_of(micro_batch, piece), part);
        done(piece);
    }
    if (works_on_pieces()) return;
    interior_forward(micro_batch, saved);
    for (int piece = 0; piece < context_.pieces; ++piece) done(piece);
}

void Branch::forward(const MicroBatchContext& micro_batch, const Tensor& x, NormedTokens& normed,
                     const BranchActivations& saved, const Tensor& out, NormedTokens* next) const {
    const ParameterUse use(store_, any_matrix());
    TokenReduction sum(context_, buffers_.partial, "branch output");
    inner_forward(micro_batch, normed, saved, [&](int piece) {
        row_.forward(piece_of(context_, saved.inner, piece),
                     piece_of(context_, buffers_.partial, piece));
        sum.start(piece);
    });
    for (int piece = 0; piece < context_.pieces; ++piece) {
        const ResidualAdd add{piece_of(context_, x, piece), sum.wait(piece), row_.bias(),
                              residual_dropout(context_, micro_batch, dropout_key_, piece),
                              piece_of(context_, out, piece)};
        if (next) {
            next->make(add, piece);
        } else {
            context_.ops().residual_add_forward(context_.stream(), add);
        }
    }
}

void Branch::recompute_selective(const MicroBatchContext& micro_batch, const Tensor& x,
                                 const BranchActivations& saved) const {
    for (int piece = 0; piece < context_.pieces; ++piece) {
        norm_.forward(piece_of(context_, x, piece), piece_of(context_, saved.normed, piece),
                      saved.norm.of_piece(context_, piece));
        if (works_on_pieces()) {
            interior_again(part_of(micro_batch, piece), part_of(saved, piece));
        }
    }
    if (!works_on_pieces()) interior_again(micro_batch, saved);
}

void Branch::recompute_full(const MicroBatchContext& micro_batch, NormedTokens& normed,
                            const BranchActivations& saved) const {
    const ParameterUse use(store_, any_matrix());
    inner_forward(micro_batch, normed, saved, [](int) {});
}

// The gradient of the residual stream on this rank's tokens, through the dropout, on its way into
// gradients.output. It stays in pass.dresidual itself where that is the same, unless it must be
// kept: then the result is always in the buffer and survives changes to dresidual.
TokenGather Branch::begin_backward(const BackwardPass& pass,
                                   const BranchGradients& gradients) const {
    const Tensor& buffer = gradients.output;
    const bool copies = (pass.micro_batch.training && context_.model.dropout > 0.0f) ||
                        (!pass.with_weights && !context_.is_sharded_by_token());
    TokenGather doutput(context_,
                        copies ? buffer : gathered_place(context_, pass.dresidual, buffer),
                        "branch output gradient");
    for (int piece = 0; piece < context_.pieces; ++piece) {
        Tensor local = piece_of(context_, pass.dresidual, piece);
        if (copies) {
            const Tensor copy = own_part(context_, buffer, piece);
            context_.ops().dropout_apply(
                context_.stream(), local,
                residual_dropout(context_, pass.micro_batch, dropout_key_, piece), copy);
            local = copy;
        }
        doutput.start(piece, local);
    }
    return doutput;
}

TokenGather Branch::backward(const BackwardPass& pass, const Tensor& x,
                             const BranchActivations& saved, const BranchGradients& gradients,
                             TokenGather& doutput, bool is_gathered) const {
    const ParameterUse use(store_, any_matrix());
    TokenGather normed(context_, gathered_place(context_, saved.normed, buffers_.gathered),
                       "branch input, again");
    if (pass.with_weights && !is_gathered) normed.start_all(saved.normed);
    TokenReduction sum(context_, buffers_.partial, "branch input gradient");
    const Tensor dinner =
        buffers_.inner.flat_range(0, saved.inner.elements()).reshaped(saved.inner.shape);
    const auto column_backward = [&](int piece) {
        column_.backward_input(piece_of(context_, gradients.column, piece),
                               piece_of(context_, buffers_.partial, piece));
        sum.start(piece);
    };
    for (int piece = 0; piece < context_.pieces; ++piece) {
        const BranchActivations part = part_of(saved, piece);
        const Tensor dinner_part = piece_of(context_, dinner, piece);
        const Tensor dcolumn_part = piece_of(context_, gradients.column, piece);
        row_backward(doutput.wait(piece), part, dinner_part, dcolumn_part);
        if (!works_on_pieces()) continue;
        interior_backward(part_of(pass.micro_batch, piece), part, dinner_part, dcolumn_part);
        column_backward(piece);
    }
    if (!works_on_pieces()) {
        interior_backward(pass.micro_batch, saved, dinner, gradients.column);
        for (int piece = 0; piece < context_.pieces; ++piece) column_backward(piece);
    }
    // One weight gradient hides the sums, the other what begins next.
    if (pass.with_weights) {
        store_.open_gradients(any_matrix());
        row_.backward_weight(doutput.wait_all(), saved.inner);
    }
    for (int piece = 0; piece < context_.pieces; ++piece) {
        norm_.backward(sum.wait(piece), piece_of(context_, x, piece),
                       saved.norm.of_piece(context_, piece),
                       piece_of(context_, pass.dresidual, piece));
    }
    return normed;
}

void Branch::finish_backward(const BranchGradients& gradients, TokenGather& normed) const {
    column_.backward_weight(gradients.column, normed.wait_all());
    store_.close_gradients(any_matrix());
}

void Branch::backward_weight(const BranchActivations& saved,
                             const BranchGradients& gradients) const {
    const Tensor local = gradients.normed ? gradients.normed : saved.normed;
    TokenGather normed(context_, gathered_place(context_, local, buffers_.gathered),
                       "branch input, again");
    normed.start_all(local);
    store_.open_gradients(any_matrix());
    row_.backward_weight(gradients.output, gradients.inner ? gradients.inner : saved.inner);
    finish_backward(gradients, normed);
}

void Branch::collect_parameters(std::vector<int>& indices) const {
    norm_.collect_parameters(indices);
    column_.collect_parameters(indices);
    row_.collect_parameters(indices);
}

}  // namespace trireme
