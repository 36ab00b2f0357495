#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "parallel/activity.h"
#include "parallel/communicator.h"

namespace trireme {

struct WatchdogOptions {
    // How long a rank may make no progress. 0: ten times the longest step, evaluation or save that
    // this rank has seen, at least a minute; ten minutes for saves, the end and the not yet seen.
    double limit_seconds = 0;
    double start_limit_seconds = 1800;  // the same before the first step
    std::chrono::milliseconds beat{500};
    // How long after a rank's connection has broken the others are ended, if nobody else does.
    std::chrono::milliseconds gone_grace{3000};

    // Called from the watchdog's thread, report from its maker's as well. On the one rank that has
    // found out; `details` is everything that the ranks said, empty when they were not asked.
    std::function<void(const std::string& message, const std::string& details)> report;
    // On every rank: ends it with this code. In a process it does not return.
    std::function<void(ExitCode code)> end;
};

// Ends a run that stands still, and says which rank is the cause. A thread on each rank looks at
// its ActivityBoard and tells rank 0 and, in case that is the one that stops, rank 1, over
// connections of its own: neither MPI nor NCCL is needed when they are what hangs.
//
// When a rank has made no progress for longer than its limit, or is not heard of for the fixed
// limit or a minute, all are asked for what they wait for (parallel/hang_analysis.h); if the ranks
// at the root stand as well, the run ends with code 86. Time is counted in beats: a machine that
// was suspended, or is too busy to run this thread, does not count as a rank that hangs.
class Watchdog {
public:
    // Collective over the world, which must outlive this. Ranks that cannot connect are not
    // watched; rank 0 reports that.
    Watchdog(World& world, WatchdogOptions options);
    // Takes leave of the others.
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    // The thread that trains: begins this part of the run.
    void enter(Phase phase, int64_t step);
    // Such a part, of which enter() has not seen the whole, took so long.
    void saw(Phase phase, double seconds);
    // This rank ends by itself, whatever the others do: to be called before World::abort.
    void leave();
    // After an error of communication: asks all ranks what they issued and reports two that differ,
    // if there are. Blocks for at most three seconds.
    void compare();

    // What counts as too long for this rank now.
    double limit_seconds() const;

private:
    class Watch;  // the thread's own

    ActivityBoard& board_;
    const double fixed_limit_, start_limit_;
    std::array<std::atomic<double>, kPhases> longest_{};  // seconds; 0: not seen
    std::chrono::steady_clock::time_point phase_begin_{};
    std::unique_ptr<Watch> watch_;
    std::thread thread_;
};

}  // namespace trireme
