#include "model/block.h"

namespace trireme {

namespace {

// What is computed again goes where the weight half will look for it.
BranchActivations with_weight_inputs(BranchActivations saved, const BranchGradients& gradients) {
    if (gradients.normed) saved.normed = gradients.normed;
    if (gradients.inner) saved.inner = gradients.inner;
    return saved;
}

}  // namespace

Block::Block(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
             int layer, Recompute policy)
    : context_(context),
      policy_(policy),
      attention_(context, store, buffers, "layers." + std::to_string(layer)),
      mlp_(context, store, buffers, "layers." + std::to_string(layer)) {}

Block::Activations Block::take_activations(Arena& arena, const WorkingSet& working_set) const {
    const Shape residual{context_.local_tokens(), context_.model.hidden};
    Activations saved;
    saved.attention = attention_.take_activations(arena, policy_, working_set.attention);
    saved.mlp = mlp_.take_activations(arena, policy_, working_set.mlp);
    saved.middle =
        policy_ == Recompute::full ? working_set.middle : arena.take(context_.compute, residual);
    saved.output = arena.take(context_.compute, residual);
    return saved;
}

Block::WorkingSet Block::take_working_set(Arena& arena) const {
    return {attention_.take_working_set(arena), mlp_.take_working_set(arena),
            arena.take(context_.compute, {context_.local_tokens(), context_.model.hidden})};
}

void Block::take_kv_cache(Arena& arena, Activations& activations) const {
    if (policy_ != Recompute::none) attention_.take_kv_cache(arena, activations.attention);
}

Block::Gradients Block::take_gradients(Arena& arena, bool is_split) const {
    const bool with_inputs = is_split && policy_ != Recompute::none;
    return {attention_.take_gradients(arena, with_inputs), mlp_.take_gradients(arena, with_inputs)};
}

NormedTokens Block::normed_tokens(const Activations& saved) const {
    return attention_.normed_tokens(saved.attention);
}

void Block::forward(const MicroBatchContext& micro_batch, const Tensor& x, NormedTokens& normed,
                    const Activations& saved, NormedTokens* next) const {
    NormedTokens middle = mlp_.normed_tokens(saved.mlp);
    attention_.forward(micro_batch, x, normed, saved.attention, saved.middle, &middle);
    mlp_.forward(micro_batch, saved.middle, middle, saved.mlp, saved.output, next);
}

TokenGather Block::begin_backward(const BackwardPass& pass, const Gradients& gradients) const {
    return mlp_.begin_backward(pass, gradients.mlp);
}

TokenGather Block::backward(const BackwardPass& pass, const Tensor& x, const Activations& saved,
                            const Gradients& gradients, TokenGather& doutput) const {
    const BranchActivations attention = with_weight_inputs(saved.attention, gradients.attention);
    const BranchActivations mlp = with_weight_inputs(saved.mlp, gradients.mlp);
    if (policy_ == Recompute::full) {
        NormedTokens normed = attention_.normed_tokens(attention);
        normed.make_all(x);
        NormedTokens middle = mlp_.normed_tokens(mlp);
        attention_.forward(pass.micro_batch, x, normed, attention, saved.middle, &middle);
        mlp_.recompute_full(pass.micro_batch, middle, mlp);
    } else if (policy_ == Recompute::selective) {
        attention_.recompute_selective(pass.micro_batch, x, attention);
        mlp_.recompute_selective(pass.micro_batch, saved.middle, mlp);
    }
    TokenGather mlp_normed =
        mlp_.backward(pass, saved.middle, mlp, gradients.mlp, doutput, policy_ == Recompute::full);
    TokenGather middle = attention_.begin_backward(pass, gradients.attention);
    if (pass.with_weights) mlp_.finish_backward(gradients.mlp, mlp_normed);
    return attention_.backward(pass, x, attention, gradients.attention, middle, false);
}

void Block::finish_backward(const Gradients& gradients, TokenGather& normed) const {
    attention_.finish_backward(gradients.attention, normed);
}

void Block::backward_weight(const Activations& saved, const Gradients& gradients) const {
    mlp_.backward_weight(saved.mlp, gradients.mlp);
    attention_.backward_weight(saved.attention, gradients.attention);
}

void Block::list_forward_uses(std::vector<int>& indices) const {
    indices.push_back(attention_.any_matrix());
    indices.push_back(mlp_.any_matrix());
}

void Block::list_backward_uses(std::vector<int>& indices) const {
    if (policy_ == Recompute::full) list_forward_uses(indices);
    indices.push_back(mlp_.any_matrix());
    indices.push_back(attention_.any_matrix());
}

void Block::collect_parameters(std::vector<int>& indices) const {
    attention_.collect_parameters(indices);
    mlp_.collect_parameters(indices);
}

}  // namespace trireme
