#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"
#include "core/timed_ops.h"
#include "parallel/cluster_links.h"

namespace trireme {

// The machines that a run is planned for, as a YAML file describes them (docs/planning.md).
struct Cluster {
    std::string source;  // name of the file
    int nodes = 1;
    ClusterLinks links;
    Backend backend = Backend::cpu;  // of its devices
    uint64_t memory_bytes = 0;       // of a device; what a run may use of it
    DeviceSpeed device;
    double peak_f32 = 0.0, peak_bf16 = 0.0;  // FLOP/s, the denominators of MFU

    int devices() const { return nodes * links.devices_per_node; }
};

// Reads a description of at most 1 MiB. compute: the type whose rates are needed; those of the
// other may be missing. Throws one Error (config) that lists all problems, each with its line.
Cluster load_cluster(const std::string& path, DType compute);
// The same for a text; `source` names it in messages.
Cluster parse_cluster(const std::string& text, const std::string& source, DType compute);
// A text that parse_cluster reads, rates with four digits. Of rates and links that are 0 nothing is
// written.
std::string dump_cluster(const Cluster& cluster);

}  // namespace trireme
