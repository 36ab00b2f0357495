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

void Model::forward(int chunk, int micro_batch, int slot, const Tensor& input,
                    const Tensor& output) {
    chunks_[static_cast<size_t>(chunk)]->forward(*inputs_, micro_batch, slot, input, output);
}

void Model::backward(int chunk, int micro_batch, int slot, const Tensor& input,
                     const Tensor& output_gradient, const Tensor& input_gradient, bool with_weights,
                     bool last) {
    chunks_[static_cast<size_t>(chunk)]->backward(*inputs_, micro_batch, slot, input,
                                                  output_gradient, input_gradient, with_weights,
                                                  reducer(chunk, last));
}

void Model::backward_weight(int chunk, int, int slot, const Tensor&, bool last) {
    chunks_[static_cast<size_t>(chunk)]->backward_weight(slot, reducer(chunk, last));
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
