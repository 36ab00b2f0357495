#pragma once

#include <signal.h>

#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "app/signal_thread.h"
#include "app/time_limit.h"

namespace trireme {

// Whether this process has been asked to stop: by SIGTERM, SIGINT or SIGUSR1, and, where it looks
// for them, by a file STOP in the output folder or by a time limit. Signals are caught from the
// moment it is made, by a thread of their own; the second one ends the process at once with code
// 128 + signal. One object a process, made before the threads that compute. Ranks agree on stopping
// by adding up their votes.
class StopRequest {
public:
    StopRequest();
    ~StopRequest();  // signals do again what they did before
    StopRequest(const StopRequest&) = delete;
    StopRequest& operator=(const StopRequest&) = delete;

    // Whether a signal has come. Any thread.
    static bool is_signalled();

    // From now on (on rank 0) the file and the clock are looked at too, once a second at most.
    void watch(const std::string& output_folder, const TimeLimit& limit);

    // Why to stop, "signal SIGTERM"; empty: nobody has asked. `needed`: how long a clean end would
    // take from now. Costs an atomic load but once a second.
    const std::string& reason(const std::function<double()>& needed_seconds);
    double vote(const std::function<double()>& needed_seconds) {
        return reason(needed_seconds).empty() ? 0.0 : 1.0;
    }

    // The request is being honoured: removes the file, so that the next start runs, and lets no
    // further signal interrupt the rest.
    void honour();

private:
    static constexpr std::array<int, 3> kSignals{SIGTERM, SIGINT, SIGUSR1};

    std::array<struct sigaction, kSignals.size()> before_{};
    std::optional<SignalThread> thread_;
    std::string reason_;
    std::string stop_file_;
    TimeLimit limit_;
    bool watches_ = false;
    std::chrono::steady_clock::time_point looked_at_{};
};

}  // namespace trireme
