#pragma once

#include <functional>

#include "tests/gpu/gpu_ranks.h"
#include "tests/model/training_support.h"

namespace trireme::test {

// One rank of a scenario, on a device of its own with NCCL between them.
struct GpuRank {
    World& control;  // joins the ranks without NCCL
    CudaDevice& device;
    Engine& engine;

    bool is_first() const { return control.rank() == 0; }
    int data_rank() const { return engine.model().context().mesh.at().data; }
};

// Runs `body` once a rank of the scenario's mesh, ranks as threads.
inline void run_gpu_engines(const Scenario& scenario, const CudaOpsOptions& ops,
                            const std::function<void(GpuRank rank)>& body,
                            GraphUse graphs = GraphUse::never) {
    run_thread_ranks(scenario.mesh.ranks(), [&](World& control) {
        CudaDevice device(gpu_of(control.rank()), ops);
        const auto world = make_nccl_world(control, device, std::chrono::seconds(60));
        Mesh mesh(*world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor),
                  scenario.data_shards);
        EngineOptions options = engine_options_of(scenario);
        options.graphs = graphs;
        Engine engine(context_of(scenario, device, mesh), options);
        body({control, device, engine});
    });
}

// As train(), on GPUs.
inline Curve train_on_gpus(const Scenario& scenario, const CudaOpsOptions& ops,
                           GraphUse graphs = GraphUse::never) {
    Curve curve;
    run_gpu_engines(
        scenario, ops,
        [&](GpuRank rank) {
            Curve own = run_steps(rank.engine, scenario, 1, scenario.steps);
            if (rank.is_first()) curve = std::move(own);
        },
        graphs);
    return curve;
}

}  // namespace trireme::test
