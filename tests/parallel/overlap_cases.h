#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/throttled_world.h"

namespace trireme::testing {

// A step whose compute and communication can be measured apart and together. One object a rank;
// run() is collective.
class OverlapStep {
public:
    virtual ~OverlapStep() = default;
    virtual void run() = 0;
};

struct OverlapCase {
    struct Parts {
        bool compute = true;
        bool overlap = true;
    };

    std::string name;
    int ranks = 2;
    MeshAxis axis = MeshAxis::data;
    double bytes = 0.0;       // of a step on a rank's link, for a first guess of its speed
    double bound = 0.0;       // what the issue asks for; 0: nothing
    bool has_switch = false;  // overlap can be turned off
    std::function<std::unique_ptr<OverlapStep>(World& world, Parts parts)> make;
};

// Seconds of a step: with a link on which communication alone takes as long as compute alone.
struct OverlapTimes {
    double compute = 0.0;
    double communication = 0.0;
    double together = 0.0;
    double apart = 0.0;  // together, with overlap turned off; 0 where there is no switch
    double bandwidth_mb_per_s = 0.0;

    double larger() const { return compute > communication ? compute : communication; }
    double ratio() const { return together / larger(); }
};

// Medians over `steps` steps, ranks as threads of this process.
OverlapTimes measure(const OverlapCase& one, int steps);

// Cases whose compute sleeps, so that they need no cores: the gradient reduction behind a backward
// pass, and pipelines of two stages. unit_ms: the shortest piece of compute.
OverlapCase gradient_case(double unit_ms);
OverlapCase schedule_case(const std::string& name, int chunks, double unit_ms,
                          int extra_warmup = 0);

}  // namespace trireme::testing
