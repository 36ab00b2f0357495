#include "model/model_chunk.h"

#include <algorithm>

#include "model/rope_table.h"

namespace trireme {

ChunkRange chunk_range(int layers, int stage, int stages) {
    const int base = layers / stages, more = layers % stages;
    ChunkRange range;
    range.first_layer = stage * base + std::min(stage, more);
    range.end_layer = range.first_layer + base + (stage < more ? 1 : 0);
    range.has_embedding = stage == 0;
    range.has_head = stage == stages - 1;
    return range;
}

ModelChunk::ModelChunk(const ModelContext& context, const ChunkRange& range)
    : context_(context), range_(range) {
    TRIREME_CHECK(range.end_layer > range.first_layer, "at least one layer in every chunk");
    if (range.has_embedding) {
        embedding_.emplace(context, store_, buffers_,
                           context.model.tie_embeddings && !range.has_head);
        embedding_->collect_parameters(embedding_parameters_);
    }
    for (int layer = range.first_layer; layer < range.end_layer; ++layer) {
        const Recompute policy = context.recompute.of_layer(layer - range.first_layer);
        blocks_.push_back(std::make_unique<Block>(context, store_, buffers_, layer, policy));
        blocks_.back()->collect_parameters(block_parameters_.emplace_back());
    }
    if (range.has_head) {
        const bool shares = context.model.tie_embeddings && embedding_;
        head_.emplace(context, store_, buffers_, shares ? embedding_->token_parameter() : -1);
        head_->collect_parameters(head_parameters_);
    }
}

int ModelChunk::tied_parameter() const {
    if (!context_.model.tie_embeddings || (embedding_ && head_)) return -1;
    if (embedding_) return embedding_->token_parameter();
    return head_ ? head_->weight_parameter() : -1;
}

void ModelChunk::allocate_parameters(bool forward_only) {
    parameter_arena_.emplace(make_arena(context_.device, "parameters", [&](Arena& arena) {
        store_.take_parameters(context_, arena);
    }));
    if (forward_only) return;
    gradient_arena_.emplace(make_arena(context_.device, "gradients",
                                       [&](Arena& arena) { store_.take_gradients(arena); }));
}

void ModelChunk::allocate_activations(int slots, bool split_backward, bool kv_cache) {
    scratch_arena_.emplace(make_arena(context_.device, "scratch", [&](Arena& arena) {
        buffers_ = ChunkBuffers::take(context_, arena);
        shared_gradients_ = blocks_.front()->take_gradients(arena, false);
        // Layers that compute again are counted from the first.
        if (context_.recompute.of_layer(0) != Recompute::none) {
            working_set_ = blocks_.front()->take_working_set(arena);
        }
        residual_gradient_ =
            arena.take(context_.compute, {context_.local_tokens(), context_.model.hidden});
        if (head_) head_->take_scratch(arena);
    }));
    activation_arena_.emplace(make_arena(context_.device, "activations", [&](Arena& arena) {
        slots_.assign(static_cast<size_t>(slots), Slot());
        for (Slot& slot : slots_) {
            if (embedding_) {
                slot.embedded =
                    arena.take(context_.compute, {context_.local_tokens(), context_.model.hidden});
            }
            for (size_t i = 0; i < blocks_.size(); ++i) {
                slot.layers.push_back(blocks_[i]->take_activations(arena, working_set_));
                if (kv_cache) blocks_[i]->take_kv_cache(arena, slot.layers.back());
                if (split_backward) {
                    slot.gradients.push_back(blocks_[i]->take_gradients(arena, true));
                }
            }
            if (head_) slot.head = head_->take_activations(arena);
        }
    }));
    if (buffers_.rope) fill_rope_table();
}

void ModelChunk::fill_rope_table() {
    const std::vector<float> table = make_rope_table(context_.model, context_.sequence);
    context_.device.copy_to_device(buffers_.rope.data, table.data(), buffers_.rope.bytes());
    context_.stream().synchronize();
}

const Tensor& ModelChunk::layer_input(const Slot& slot, size_t layer, const Tensor& input) const {
    if (layer > 0) return slot.layers[layer - 1].output;
    return embedding_ ? slot.embedded : input;
}

void ModelChunk::forward(const StepInputs& inputs, const StageAction& work) {
    Slot& slot = slots_[static_cast<size_t>(work.slot)];
    const size_t micro_batch = static_cast<size_t>(work.action.micro_batch);
    const MicroBatchContext pass = inputs.micro_batch(work.action.micro_batch);
    if (embedding_) {
        embedding_->forward(pass, inputs.tokens[micro_batch], slot.embedded);
    }
    // The last layer writes straight into what is sent on.
    if (work.result) slot.layers.back().output = work.result;
    const bool generates = inputs.pass == StepInputs::Pass::generate;
    std::optional<NormedTokens> normed = blocks_[0]->normed_tokens(slot.layers[0]);
    normed->make_all(layer_input(slot, 0, work.input));
    for (size_t i = 0; i < blocks_.size(); ++i) {
        std::optional<NormedTokens> next;
        if (i + 1 < blocks_.size()) {
            next = blocks_[i + 1]->normed_tokens(slot.layers[i + 1]);
        } else if (head_ && !generates) {
            next = head_->normed_tokens(slot.head);
        }
        blocks_[i]->forward(pass, layer_input(slot, i, work.input), *normed, slot.layers[i],
                            next ? &*next : nullptr);
        normed = next;
    }
    if (!head_) return;
    if (generates) {
        head_->logits_of_token(slot.layers.back().output, inputs.logits_token, slot.head,
                               inputs.logits);
        return;
    }
    const LossHead::Loss loss{.labels = inputs.labels[micro_batch],
                              .scale = inputs.loss_scale,
                              .total = inputs.loss_total,
                              .tokens = inputs.token_losses,
                              .take_logits = inputs.take_logits};
    head_->forward(pass, *normed, loss, slot.head);
}

void ModelChunk::report_ready(GradientReducer* reducer, const std::vector<int>& parameters) const {
    if (!reducer) return;
    for (int index : parameters) reducer->parameter_ready(index);
}

void ModelChunk::backward(const StepInputs& inputs, const StageAction& work,
                          GradientReducer* reducer) {
    Slot& slot = slots_[static_cast<size_t>(work.slot)];
    const MicroBatchContext micro_batch = inputs.micro_batch(work.action.micro_batch);
    const BackwardPass pass{.micro_batch = micro_batch,
                            .dresidual = begin_residual_gradient(slot, work, reducer),
                            .with_weights = work.action.kind == ActionKind::backward};
    const auto gradients = [&](size_t i) -> const Block::Gradients& {
        return pass.with_weights ? shared_gradients_ : slot.gradients[i];
    };
    const size_t last = blocks_.size() - 1;
    TokenGather doutput = blocks_[last]->begin_backward(pass, gradients(last));
    for (size_t i = blocks_.size(); i-- > 0;) {
        TokenGather normed = blocks_[i]->backward(pass, layer_input(slot, i, work.input),
                                                  slot.layers[i], gradients(i), doutput);
        if (i > 0) doutput = blocks_[i - 1]->begin_backward(pass, gradients(i - 1));
        if (pass.with_weights) blocks_[i]->finish_backward(gradients(i), normed);
        report_ready(reducer, block_parameters_[i]);
    }
    if (embedding_) {
        const Tensor& tokens = inputs.tokens[static_cast<size_t>(work.action.micro_batch)];
        embedding_->backward(micro_batch, tokens, pass.dresidual);
        report_ready(reducer, embedding_parameters_);
    }
}

Tensor ModelChunk::begin_residual_gradient(const Slot& slot, const StageAction& work,
                                           GradientReducer* reducer) const {
    if (head_) {
        const Tensor& dresidual = work.result ? work.result : residual_gradient_;
        head_->backward(slot.layers.back().output, slot.head, dresidual);
        report_ready(reducer, head_parameters_);
        return dresidual;
    }
    if (!work.result) return work.output_gradient;
    context_.ops().copy(context_.stream(), work.output_gradient, work.result);
    return work.result;
}

void ModelChunk::backward_weight(int slot_index, GradientReducer* reducer) {
    const Slot& slot = slots_[static_cast<size_t>(slot_index)];
    report_ready(reducer, head_parameters_);
    for (size_t i = blocks_.size(); i-- > 0;) {
        blocks_[i]->backward_weight(slot.layers[i], slot.gradients[i]);
        report_ready(reducer, block_parameters_[i]);
    }
    report_ready(reducer, embedding_parameters_);
}

void ModelChunk::list_uses(ActionKind kind, std::vector<BucketUse>& uses) const {
    std::vector<int> parameters;
    if (kind == ActionKind::forward) {
        if (embedding_) embedding_->list_uses(parameters);
        for (const auto& block : blocks_) block->list_forward_uses(parameters);
        if (head_) parameters.push_back(head_->weight_parameter());
    } else if (passes_gradient(kind)) {
        for (size_t i = blocks_.size(); i-- > 0;) {
            blocks_[i]->list_backward_uses(parameters);
        }
    }
    for (const int index : parameters) uses.push_back(store_.use_of(index));
}

std::vector<const Arena*> ModelChunk::arenas() const {
    std::vector<const Arena*> all;
    for (const auto* arena :
         {&parameter_arena_, &gradient_arena_, &activation_arena_, &scratch_arena_}) {
        if (*arena) all.push_back(&**arena);
    }
    return all;
}

}  // namespace trireme
