#pragma once

#include <memory>

#include "app/config.h"
#include "app/engine_setup.h"
#include "parallel/control_group.h"

namespace trireme {

// This rank's device, mesh and engine for a configuration: what train, eval and generate share.
// The world must outlive it. Collective.
class RankSetup {
public:
    // batch and sequence: the micro-batch's sizes, which evaluation and generation choose freely.
    // Throws Error (config) when the mesh does not fit the world.
    // trace: may be null; must outlive the setup.
    RankSetup(World& world, const Config& config, EngineUse use, int64_t batch, int64_t sequence,
              Trace* trace = nullptr);

    const Config& config() const { return config_; }
    Device& device() { return *device_; }
    Mesh& mesh() { return *mesh_; }
    Engine& engine() { return *engine_; }
    // For the thread that trains.
    ControlGroup& control() { return *control_; }

    // Reads its own data: the first chunk of the model the tokens, the last the labels, and all of
    // them where documents begin when these are kept apart.
    bool needs_data() const {
        return config_.data.keep_documents_apart || engine_->model().has_embedding() ||
               engine_->model().has_head();
    }

private:
    Config config_;
    std::unique_ptr<ControlGroup> control_;
    std::unique_ptr<Device> device_;
    std::unique_ptr<World> device_world_;     // its communicators carry the device's memory
    std::unique_ptr<World> throttled_world_;  // over it, when testing.links slow it down
    std::unique_ptr<Mesh> mesh_;
    std::unique_ptr<Engine> engine_;
};

}  // namespace trireme
