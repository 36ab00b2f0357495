#include "app/rank_setup.h"

#include <algorithm>

#include "parallel/device_world.h"
#include "parallel/throttled_world.h"

namespace trireme {

RankSetup::RankSetup(World& world, const Config& config, Use use, int64_t batch, int64_t sequence,
                     Trace* trace)
    : config_(config) {
    control_ = std::make_unique<ControlGroup>(world, "control");
    device_ = make_device(config.device, world.local_rank(), world.local_size());
    device_world_ = make_device_world(world, *device_);
    World* links = device_world_.get();
    if (use == Use::train && !config.testing.links.empty()) {
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

void check_no_context_axis(const Config& config, const std::string& what) {
    if (config.mesh.context == 1) return;
    throw Error(ExitCode::config, "mesh.context: found " + std::to_string(config.mesh.context) +
                                      ", expected 1: " + what +
                                      " takes sequences of any length, which such processes could "
                                      "not share out; leave it out");
}

void check_has_tokenizer(const Config& config, const std::string& what) {
    if (config.data.tokenizer != "none") return;
    throw Error(ExitCode::config, "data.tokenizer: found none, expected a tokenizer: " + what +
                                      " turns text into tokens; name the one that the data was "
                                      "made with, by --set data.tokenizer=FILE");
}

Config config_of_checkpoint(const CheckpointState& state, const std::string& folder,
                            const std::vector<std::string>& sets, int world) {
    std::vector<std::string> all = sets;
    const auto is_set = [&](const std::string& begin) {
        return std::any_of(sets.begin(), sets.end(),
                           [&](const std::string& set) { return set.starts_with(begin); });
    };
    const bool names_mesh = is_set("mesh.");
    if (!names_mesh && state.mesh.ranks() != world) {
        all.insert(all.begin(), {"mesh.tensor=1", "mesh.pipeline=1", "mesh.data=auto"});
    } else if (names_mesh ? !is_set("mesh.data=") : state.mesh.context > 1) {
        all.insert(all.begin(), "mesh.data=auto");
    }
    all.insert(all.begin(), "mesh.context=1");
    // Sizes of a training step do not matter here, nor what must divide them, nor its schedule.
    all.push_back("pipeline.schedule=1f1b");
    all.push_back("pipeline.virtual_stages=1");
    all.push_back("tensor_parallel.sequence_parallel=false");
    all.push_back("tensor_parallel.pieces=auto");
    all.push_back("data_parallel.shards=0");
    all.push_back("batch.micro=1");
    all.push_back("batch.global=" + std::to_string(world));
    return parse_config(state.config, folder + "/manifest.json", all, world);
}

}  // namespace trireme
