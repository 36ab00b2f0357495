#include "app/engine_setup.h"

namespace trireme {

std::unique_ptr<Mesh> make_mesh(World& world, const Config& config) {
    return std::make_unique<Mesh>(world, config.mesh, kv_groups(config.model, config.mesh.tensor),
                                  config.data_parallel.shards);
}

std::unique_ptr<Engine> make_engine(const Config& config, EngineUse use, Device& device, Mesh& mesh,
                                    int64_t batch, int64_t sequence, Trace* trace) {
    const bool trains = use == EngineUse::train;
    const bool shards_tokens = config.tensor_parallel.sequence_parallel && trains;
    const int tensor = config.mesh.tensor;
    int pieces = 1;
    if (tensor > 1 && trains) {
        pieces =
            config.tensor_parallel.pieces > 0
                ? config.tensor_parallel.pieces
                : automatic_pieces(batch * sequence / config.mesh.context, tensor, shards_tokens);
    }
    // Beside the keys and values that stay, generation needs no more than a layer at a time.
    const RecomputeOptions recompute =
        use == EngineUse::generate ? RecomputeOptions{.policy = Recompute::full} : config.recompute;
    const ModelContext context{.device = device,
                               .mesh = mesh,
                               .model = config.model,
                               .compute = config.precision.compute,
                               .sequence_parallel = shards_tokens,
                               .batch = batch,
                               .sequence = sequence,
                               .seed = config.run.seed,
                               .recompute = recompute,
                               .pieces = pieces,
                               .overlap_tensor = config.tensor_parallel.overlap};
    EngineOptions options;
    options.pipeline = config.pipeline;
    options.data_parallel = config.data_parallel;
    options.data_parallel.probe_gradients = config.numerics.find_origin;
    options.optimizer = config.optimizer;
    options.forward_only = !trains;
    options.kv_cache = use == EngineUse::generate;
    options.initial_values = false;  // most often a checkpoint has other ones
    options.keep_documents_apart = config.data.keep_documents_apart;
    options.micro_batches = trains ? config.micro_batches() : 1;
    options.graphs = config.device.graphs;
    options.trace = trace;
    return std::make_unique<Engine>(context, options);
}

}  // namespace trireme
