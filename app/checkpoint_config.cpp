#include "app/checkpoint_config.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "app/schema.h"
#include "core/error.h"

namespace trireme {

namespace {

constexpr std::string_view kMicroBatchKey = "batch.micro=";

}  // namespace

Config config_of_checkpoint(const CheckpointState& state, const std::string& folder,
                            const std::vector<std::string>& sets, int world, int micro_batch) {
    std::vector<std::string> all = sets;
    for (const std::string& set : sets) {
        if (!set.starts_with(kMicroBatchKey)) continue;
        // What is no size is told of when the configuration is read.
        const size_t digits =
            std::min(set.find_first_not_of(' ', kMicroBatchKey.size()), set.size());
        int value = 0;
        std::from_chars(set.data() + digits, set.data() + set.size(), value);
        micro_batch = std::max(value, 1);
    }
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
    all.insert(all.begin(), std::string(kMicroBatchKey) + std::to_string(micro_batch));
    all.push_back("batch.global=" + std::to_string(int64_t{micro_batch} * world));
    return parse_config(state.config, folder + "/manifest.json", all, world);
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

}  // namespace trireme
