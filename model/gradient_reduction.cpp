#include "model/gradient_reduction.h"

namespace trireme {

GradientReduction::GradientReduction(const ModelContext& context, Model& model,
                                     const DataParallelOptions& options) {
    Mesh& mesh = context.mesh;
    const GradientGroups groups{mesh.data(), mesh.data_shard(), mesh.tensor(), mesh.tensor_kv(),
                                mesh.data_replicas()};
    std::vector<ChunkGradients> chunks;
    for (auto& chunk : model.chunks()) {
        const ParameterStore& store = chunk->store();
        chunks.push_back({store.specs(), &store.layout(), store.gradients()});
    }
    if (options.zero >= 2) {
        sharder_ = std::make_unique<GradientSharder>(context.device, groups, chunks, options);
        for (size_t i = 0; i < chunks.size(); ++i) {
            model.chunks()[i]->store().attach(*sharder_, static_cast<int>(i));
        }
        return;
    }
    for (const ChunkGradients& chunk : chunks) {
        reducers_.push_back(
            std::make_unique<GradientReducer>(context.device, groups, chunk, options));
        reducer_views_.push_back(reducers_.back().get());
    }
}

void GradientReduction::begin_step() {
    for (auto& reducer : reducers_) reducer->begin_step();
    if (sharder_) sharder_->begin_step();
}

void GradientReduction::finish(const std::function<void()>& sum_tied) {
    if (sharder_) sharder_->finish();
    if (sum_tied) sum_tied();
    for (auto& reducer : reducers_) reducer->finish();
}

std::vector<int> GradientReduction::not_finite(size_t chunk) {
    return sharder_ ? sharder_->not_finite(static_cast<int>(chunk))
                    : reducers_[chunk]->not_finite();
}

std::vector<const Arena*> GradientReduction::arenas() const {
    std::vector<const Arena*> arenas;
    for (const auto& reducer : reducers_) arenas.push_back(&reducer->arena());
    if (sharder_) arenas.push_back(&sharder_->arena());
    return arenas;
}

}  // namespace trireme
