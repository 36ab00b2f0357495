#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/memory_plan.h"

namespace trireme {

// One key that would make the process that holds most hold less.
struct MemoryChange {
    std::string set;  // "recompute=full"
    int processes = 0;
    uint64_t largest_bytes = 0;
};

// The configuration with one more `key=value` text; throws Error (config) where it is impossible.
using ChangedConfig = std::function<Config(const std::string& set)>;

// Those that are possible and help.
std::vector<MemoryChange> find_memory_changes(const Config& config, const MemoryPlan& plan,
                                              const ChangedConfig& with);

}  // namespace trireme
