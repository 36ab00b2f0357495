#include "model/model.h"

#include <algorithm>
#include <array>

namespace trireme {

Model::Model(const ModelContext& context, const ScheduleProgram& program)
    : context_(context), head_stage_(program.rank_of(program.virtual_stages() - 1)) {
    for (int chunk = 0; chunk < program.chunks; ++chunk) {
        const int stage = program.virtual_stage(context.mesh.at().pipeline, chunk);
        chunks_.push_back(std::make_unique<ModelChunk>(
            context_, chunk_range(context.model.layers, stage, program.virtual_stages())));
    }
}

void Model::begin(const StepInputs& inputs, std::span<GradientReducer* const> reducers) {
    inputs_ = &inputs;
    reducers_ = reducers;
    context_.span = inputs.span;
}

void Model::perform(const StageAction& work) {
    const size_t index = static_cast<size_t>(work.action.chunk);
    ModelChunk& chunk = *chunks_[index];
    GradientReducer* reducer = work.last && !reducers_.empty() ? reducers_[index] : nullptr;
    switch (work.action.kind) {
        case ActionKind::forward:
            chunk.forward(*inputs_, work);
            break;
        case ActionKind::backward:
        case ActionKind::backward_input:
            chunk.backward(*inputs_, work, reducer);
            break;
        case ActionKind::backward_weight:
            chunk.backward_weight(work.slot, reducer);
            break;
    }
}

bool Model::has_embedding() const {
    return std::any_of(chunks_.begin(), chunks_.end(),
                       [](const auto& chunk) { return chunk->range().has_embedding; });
}

bool Model::has_head() const {
    return std::any_of(chunks_.begin(), chunks_.end(),
                       [](const auto& chunk) { return chunk->range().has_head; });
}

void Model::sum_tied_gradients() {
    std::array<size_t, 2> tied{};
    size_t n_tied = 0;
    for (size_t i = 0; i < chunks_.size(); ++i) {
        if (chunks_[i]->tied_parameter() >= 0) tied.at(n_tied++) = i;
    }
    const auto gradient = [&](size_t i) {
        return chunks_[i]->store().reduced_gradient(chunks_[i]->tied_parameter());
    };
    Stream& stream = context_.stream();
    if (n_tied == 2) {
        // Both ends of the model on this rank.
        context_.ops().add(stream, gradient(tied[1]), gradient(tied[0]));
        context_.ops().copy(stream, gradient(tied[0]), gradient(tied[1]));
    } else if (n_tied == 1) {
        Communicator* ends = context_.mesh.embedding();
        TRIREME_CHECK(ends, "first and last stage to share a communicator");
        stream.wait(ends->all_reduce(stream, gradient(tied[0]), ReduceOp::sum,
                                     "tied embedding gradient"));
    }
    for (size_t k = 0; k < n_tied && !reducers_.empty(); ++k) {
        reducers_[tied[k]]->release(chunks_[tied[k]]->tied_parameter());
    }
}

}  // namespace trireme
