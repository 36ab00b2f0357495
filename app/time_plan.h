#pragma once

#include <vector>

#include "app/cluster_file.h"
#include "app/config.h"

namespace trireme {

// What a training step is estimated to take: the step's own code, run for one process of each
// pipeline stage on devices and a network that take time instead of computing and moving.
struct TimePlan {
    // Where a process of a stage has its seconds of a step.
    struct Stage {
        double matmul = 0.0, attention = 0.0, other_compute = 0.0;
        AxisSeconds waits;        // compute stood still for the axis
        double other_wait = 0.0;  // for all ranks' loss and norm
    };

    double step_seconds = 0.0;  // from a step's end to the next one's
    double tokens_per_second = 0.0;
    double flops_per_second_per_rank = 0.0;  // model FLOPs
    double mfu = 0.0;
    std::vector<Stage> stages;
};

// `config` has been checked against its world, which has room on the cluster. Reading data, saving
// and evaluation are not in it.
TimePlan plan_time(const Config& config, const Cluster& cluster);

}  // namespace trireme
