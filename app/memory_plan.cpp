#include "app/memory_plan.h"

#include <algorithm>
#include <memory>

#include "app/engine_setup.h"
#include "app/model_checkpoint.h"
#include "core/planned_device.h"
#include "model/flops.h"
#include "parallel/checkpoint_snapshot.h"
#include "parallel/planned_world.h"

namespace trireme {

uint64_t MemoryPlan::total_of(const Labels& labels) {
    uint64_t total = 0;
    for (const auto& [label, bytes] : labels) total += bytes;
    return total;
}

uint64_t MemoryPlan::largest_bytes() const {
    uint64_t largest = 0;
    for (const Labels& labels : stages) largest = std::max(largest, total_of(labels));
    return largest;
}

MemoryPlan plan_memory(const Config& config) {
    const PlannedRanks ranks(config.mesh.ranks(), [&](World& world) { make_mesh(world, config); });
    MemoryPlan plan;
    for (int stage = 0; stage < config.mesh.pipeline; ++stage) {
        // Padding makes the others of the stage hold as much, and save as much but for rounding.
        const int first =
            rank_of(config.mesh, {.tensor = 0, .context = 0, .data = 0, .pipeline = stage});
        const std::unique_ptr<World> world = ranks.world_of(first);
        PlannedDevice device(config.device.backend);
        const std::unique_ptr<Mesh> mesh = make_mesh(*world, config);
        const std::unique_ptr<Engine> engine =
            make_engine(config, EngineUse::train, device, *mesh, config.batch.micro,
                        config.data.sequence_length);
        plan.stages.push_back(device.held_bytes());
        if (config.device.backend == Backend::cuda || config.saves_in_background()) {
            plan.checkpoint_copy_bytes =
                std::max(plan.checkpoint_copy_bytes,
                         CheckpointSnapshot::bytes_of(checkpoint_pieces(*engine)));
        }
    }
    // Parameters and both moments, in fp32 whatever the compute type.
    plan.checkpoint_bytes =
        static_cast<uint64_t>(count_parameters(config.model).total) * 3 * sizeof(float);
    return plan;
}

}  // namespace trireme
