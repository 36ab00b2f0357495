#pragma once

#include <functional>
#include <vector>

#include "parallel/schedule.h"

namespace trireme {

// When a program's actions happen, if each takes the time it is said to take. Each rank performs
// its actions one by one, each as soon as what it needs is there; transfers between ranks take
// time but keep nobody from work, and as many can be under way as there are results. The actual run
// keeps two results a neighbour, so it can only be slower.
struct Simulation {
    struct TimedAction {
        Action action;
        double begin = 0.0;
        double end = 0.0;
    };
    struct RankTimes {
        double first_begin = 0.0;
        double last_end = 0.0;
        double busy = 0.0;         // sum of its actions
        double bubble = 0.0;       // makespan - busy
        int peak_activations = 0;  // as of peak_live_activations
    };

    std::vector<std::vector<TimedAction>> actions;  // of each rank, in program order
    std::vector<RankTimes> ranks;
    double makespan = 0.0;  // the end of the last action; the first begins at 0
    // The measure of "Zero Bubble Pipeline Parallelism", which leaves out how much later ranks
    // begin than the first: the longest time from a rank's first action to its last.
    double cost = 0.0;
    double bubble_rate = 0.0;  // (cost - busy) / cost, on average over the ranks
};

// Seconds, or any unit, that an action takes on a rank.
using ActionDuration = std::function<double(int rank, const Action& action)>;

// The program must have passed find_schedule_error.
Simulation simulate(const ScheduleProgram& program, const ActionDuration& duration,
                    double transfer);
Simulation simulate(const ScheduleProgram& program, const StageCosts& costs);

double duration_of(ActionKind kind, const StageCosts& costs);

// Of each of the `chunks` virtual stages of a rank whose layers cost as much together.
StageCosts costs_of_chunk(const StageCosts& of_rank, int chunks);

}  // namespace trireme
