#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace trireme {

// Ends this process with code 86 when the ranks have not found together in so many seconds. Made
// before MPI starts, which waits for all ranks without a limit; the watchdog, which needs the other
// ranks to begin with, takes over from it. Also ends it when it was asked to stop by a signal and
// half a minute later the ranks still have not met, with code 75: there is nothing to save yet. And
// ends the process when its launcher has gone.
class StartWatch {
public:
    explicit StartWatch(double limit_seconds);
    ~StartWatch();
    StartWatch(const StartWatch&) = delete;
    StartWatch& operator=(const StartWatch&) = delete;

    void end();

private:
    void run();

    const double limit_seconds_;
    // From the environment, which MPI changes while it starts.
    const int rank_;
    const bool is_launched_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool ended_ = false;
    std::thread thread_;
};

// The processes of this host that the same launcher has started and that are stopped: "rank 3 (pid
// 4711)", several with commas; empty when there is none.
std::string stopped_siblings();

}  // namespace trireme
