#include "model/model.h"

namespace trireme {

Model::Model(const ModelContext& context, const ScheduleProgram& program) : context_(context) {
    for (int chunk = 0; chunk < program.chunks; ++chunk) {
        const int stage = program.virtual_stage(context.mesh.at().pipeline, chunk);
        chunks_.push_back(std::make_unique<ModelChunk>(
            context_, chunk_range(context.model.layers, stage, program.virtual_stages())));
    }
}

void Model::begin(const StepInputs& inputs, std::span<GradientReducer* const> reducers) {
    inputs_ = &inputs;
    reducers_ = reducers;
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

void Model::sum_tied_gradients() {
    for (size_t i = 0; i < chunks_.size(); ++i) {
        const int tied = chunks_[i]->tied_parameter();
        if (tied < 0) continue;
        Communicator* ends = context_.mesh.embedding();
        TRIREME_CHECK(ends, "first and last stage to share a communicator");
        context_.stream().wait(ends->all_reduce(context_.stream(),
                                                chunks_[i]->store().reduced_gradient(tied),
                                                ReduceOp::sum, "tied embedding gradient"));
        if (!reducers_.empty()) reducers_[i]->release(tied);
    }
}

}  // namespace trireme
