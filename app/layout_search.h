#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "app/cluster_file.h"
#include "app/config.h"

namespace trireme {

// One way to lay a run out on a cluster.
struct Layout {
    std::vector<std::string> sets;  // "mesh.tensor=8", ...: what makes it from the configuration
    uint64_t largest_bytes = 0;     // of the process that holds most
    double step_seconds = 0.0;
    double tokens_per_second = 0.0;
    bool fits_without_saving = false;  // with ZeRO as configured and nothing computed again
};

struct LayoutSearch {
    // The configuration with these `key=value` texts on top; throws Error (config) where it is
    // impossible.
    std::function<Config(const std::vector<std::string>& sets)> with;
    // Told after each estimate; may be empty.
    std::function<void(uint64_t done, uint64_t total)> on_progress;
};

// Layouts of as many processes as the configuration's mesh has that fit into the cluster's devices,
// fastest first: every power of two of mesh.tensor on a machine, of mesh.pipeline, of batch.micro
// up to 8, and with micro-batches of one sequence of mesh.context, as long as what is smaller does
// not fit without saving memory; each with the first of these that fits: ZeRO as configured without
// recomputation, selective recomputation, ZeRO 2, full recomputation, ZeRO 3 without and with them.
std::vector<Layout> find_layouts(const Config& config, const Cluster& cluster,
                                 const LayoutSearch& search);

}  // namespace trireme
