#include "app/memory_changes.h"

#include "core/error.h"

namespace trireme {

namespace {

std::vector<std::string> candidates(const Config& config) {
    std::vector<std::string> sets;
    for (int zero = config.data_parallel.zero + 1; zero <= 3 && config.mesh.data_ranks() > 1;
         ++zero) {
        sets.push_back("data_parallel.zero=" + std::to_string(zero));
    }
    sets.emplace_back("recompute=selective");
    if (config.batch.micro > 1) {
        sets.push_back("batch.micro=" + std::to_string(config.batch.micro / 2));
    }
    sets.emplace_back("recompute=full");
    sets.push_back("mesh.pipeline=" + std::to_string(2 * config.mesh.pipeline));
    sets.push_back("mesh.tensor=" + std::to_string(2 * config.mesh.tensor));
    sets.push_back("mesh.context=" + std::to_string(2 * config.mesh.context));
    return sets;
}

}  // namespace

std::vector<MemoryChange> find_memory_changes(const Config& config, const MemoryPlan& plan,
                                              const ChangedConfig& with) {
    std::vector<MemoryChange> changes;
    for (const std::string& set : candidates(config)) {
        try {
            const Config changed = with(set);
            const uint64_t largest = plan_memory(changed).largest_bytes();
            if (largest < plan.largest_bytes()) {
                changes.push_back({set, changed.mesh.ranks(), largest});
            }
        } catch (const Error& error) {
            if (error.code() != ExitCode::config) throw;
        }
    }
    return changes;
}

}  // namespace trireme
