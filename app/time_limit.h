#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace trireme {

// Seconds of a text: a number of them, HH:MM:SS or D-HH:MM:SS; nothing for any other.
std::optional<double> parse_duration(const std::string& text);

// A time by both clocks: the batch system's ends are told by the one that may be set, how long a
// process has run by the one that may not.
struct Moment {
    std::chrono::system_clock::time_point wall;
    std::chrono::steady_clock::time_point steady;

    static Moment now() {
        return {std::chrono::system_clock::now(), std::chrono::steady_clock::now()};
    }
};

// When this process must have ended: the earlier of run.time_limit after its start and the end that
// a batch system has set for the job.
class TimeLimit {
public:
    TimeLimit() = default;
    // limit_seconds: 0 for none. job_end: seconds since 1970 as Slurm gives them in
    // SLURM_JOB_END_TIME, or null; what is no such number counts as none.
    TimeLimit(const Moment& start, double limit_seconds, const char* job_end);

    bool exists() const { return end_ || job_end_; }
    // A clean end needs about so many seconds; whether it has to begin now.
    bool is_due(const Moment& now, double needed_seconds) const;
    // Seconds from the start to the end; 0 when there is none.
    double length_seconds() const;
    // What ends the process first, "run.time_limit 3600 s".
    std::string describe(const Moment& now) const;

private:
    double seconds_of_run(const Moment& now) const;  // until run.time_limit; may be infinite
    double seconds_of_job(const Moment& now) const;  // until the job's end

    Moment start_{};
    std::optional<std::chrono::steady_clock::time_point> end_;
    std::optional<std::chrono::system_clock::time_point> job_end_;
};

// What a clean end needs: twice the sum of a save and a step. A save that has not been measured yet
// is taken as 30 s, but at most a twentieth of the whole time there is.
double seconds_to_end(double step_seconds, double save_seconds, double length_seconds);

}  // namespace trireme
