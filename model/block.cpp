#include "model/block.h"

namespace trireme {

Block::Block(const ModelContext& context, ParameterStore& store, int layer, const Tensor& rope)
    : context_(context),
      attention_(context, store, "layers." + std::to_string(layer), rope),
      mlp_(context, store, "layers." + std::to_string(layer)) {}

Block::Activations Block::take_activations(Arena& arena) const {
    const Shape residual{context_.local_tokens(), context_.model.hidden};
    return {attention_.take_activations(arena), mlp_.take_activations(arena),
            arena.take(context_.compute, residual), arena.take(context_.compute, residual)};
}

Block::Gradients Block::take_gradients(Arena& arena) const {
    return {attention_.take_gradients(arena), mlp_.take_gradients(arena)};
}

void Block::forward(const MicroBatchContext& micro_batch, const Tensor& x, const Activations& saved,
                    const BranchScratch& scratch) const {
    attention_.forward(micro_batch, x, saved.attention, scratch, saved.middle);
    mlp_.forward(micro_batch, saved.middle, saved.mlp, scratch, saved.output);
}

void Block::backward(const MicroBatchContext& micro_batch, const Tensor& x,
                     const Activations& saved, const BranchScratch& scratch,
                     const Gradients& gradients, const Tensor& dresidual, bool with_weights) const {
    mlp_.backward(micro_batch, saved.middle, saved.mlp, scratch, gradients.mlp, dresidual,
                  with_weights);
    attention_.backward(micro_batch, x, saved.attention, scratch, gradients.attention, dresidual,
                        with_weights);
}

void Block::backward_weight(const Activations& saved, const Gradients& gradients) const {
    mlp_.backward_weight(saved.mlp, gradients.mlp);
    attention_.backward_weight(saved.attention, gradients.attention);
}

void Block::collect_parameters(std::vector<int>& indices) const {
    attention_.collect_parameters(indices);
    mlp_.collect_parameters(indices);
}

}  // namespace trireme
