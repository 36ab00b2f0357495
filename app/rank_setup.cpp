#include "app/rank_setup.h"

#include "parallel/device_world.h"
#include "parallel/throttled_world.h"

namespace trireme {

RankSetup::RankSetup(World& world, const Config& config, EngineUse use, int64_t batch,
                     int64_t sequence, Trace* trace)
    : config_(config) {
    control_ = std::make_unique<ControlGroup>(world, "control");
    device_ = make_device(config.device, world.local_rank(), world.local_size());
    device_world_ = make_device_world(world, *device_);
    World* links = device_world_.get();
    if (use == EngineUse::train && !config.testing.links.empty()) {
        if (device_->backend() != Backend::cpu) {
            throw Error(ExitCode::config,
                        "testing.links: found links on a GPU, expected device.backend cpu");
        }
        throttled_world_ = make_throttled_world(*device_world_, config.testing.links);
        links = throttled_world_.get();
    }
    mesh_ = make_mesh(*links, config);
    engine_ = make_engine(config, use, *device_, *mesh_, batch, sequence, trace);
}

}  // namespace trireme
