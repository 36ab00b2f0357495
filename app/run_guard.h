#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "app/config.h"
#include "app/lock_keeper.h"
#include "app/restart_counter.h"
#include "app/stop_request.h"
#include "core/log.h"
#include "parallel/control_group.h"
#include "parallel/watchdog.h"

namespace trireme {

// What stands round a run so that it ends well: its lock on the folder, requests to stop, the
// watchdog, and the count of starts without progress. The trainer tells it what it is at and asks
// whether to go on.
class RunGuard {
public:
    // Starts the watchdog. Collective. `stop` has been catching signals since the process began.
    // All references must outlive it.
    RunGuard(World& world, const Config& config, StopRequest& stop);
    ~RunGuard();
    RunGuard(const RunGuard&) = delete;
    RunGuard& operator=(const RunGuard&) = delete;

    // Rank 0: locks the output folder, if it exists. Throws Error (output_busy).
    void lock_folder();
    // The newest checkpoint is of `first_step`; the folder exists and is locked. Counts the start
    // (Error no_progress), tries to write from every host (Error output_busy). Collective.
    void begin_run(ControlGroup& control, int64_t first_step);

    // From now on the run is in this phase.
    void enter(Phase phase, int64_t step);

    // A checkpoint took so long, whether training waited for it or not.
    void saved(double seconds);

    // This rank's vote for stopping: above zero once it has been asked. For every step.
    double vote();
    // Whether any rank has been asked. Collective.
    bool is_stop_agreed(ControlGroup& control);
    // For work that goes on for long: as is_stop_agreed, but the ranks talk only about once a
    // second. Every rank calls it equally often.
    bool is_stop_agreed_now_and_then(ControlGroup& control);

    // The run ends as asked, its checkpoint is on the disk: says why, and how to go on. Collective.
    void stopped(ControlGroup& control, int64_t step);
    // The run is complete.
    void finished();
    // This rank ends with an error: before World::abort.
    void failed(ExitCode code, const std::string& message);

private:
    struct Pace {
        int64_t calls = 0;
        int64_t next = 1;
        double every = 1;
        std::chrono::steady_clock::time_point last{};
    };

    void report_hang(const std::string& message, const std::string& details);
    void lose_lock();
    double needed_seconds() const;
    void probe_folder() const;

    World& world_;
    const Config& config_;
    StopRequest& stop_;
    Log log_;
    const RestartCounter restarts_;
    const TimeLimit limit_;
    std::unique_ptr<LockKeeper> lock_;  // rank 0
    Pace pace_;
    int64_t first_step_ = 0;  // of begin_run
    Phase phase_ = Phase::start_up;
    std::chrono::steady_clock::time_point phase_begin_{};
    double step_seconds_ = 0, save_seconds_ = 0;  // the longest so far
    std::optional<Watchdog> watchdog_;            // last: its thread uses what is above
};

// The limit that start-up has before the ranks can talk, from a configuration that may be wrong.
double start_limit_seconds(const std::string& config_path, const std::vector<std::string>& sets);

}  // namespace trireme
