#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace trireme {

// Seconds of a text: a number of them, HH:MM:SS or D-HH:MM:SS; nothing for any other.
std::optional<double> parse_duration(const std::string& text);

// When this process must have ended: the earlier of run.time_limit after its start and the end that
// a batch system has set for the job.
class TimeLimit {
public:
    using Clock = std::chrono::system_clock;

    TimeLimit() = default;
    // limit_seconds: 0 for none. job_end: seconds since 1970 as Slurm gives them in
    // SLURM_JOB_END_TIME, or null; what is no such number counts as none.
    TimeLimit(Clock::time_point start, double limit_seconds, const char* job_end);

    bool exists() const { return end_.has_value(); }
    // A clean end needs about so many seconds; whether it has to begin now.
    bool is_due(Clock::time_point now, double needed_seconds) const;
    // Seconds from the start to the end; 0 when there is none.
    double length_seconds() const;
    std::string describe() const;  // "run.time_limit 3600 s"

private:
    Clock::time_point start_{};
    std::optional<Clock::time_point> end_;
    bool is_job_end_ = false;
};

// What a clean end needs: twice the sum of a save and a step. A save that has not been measured yet
// is taken as 30 s, but at most a twentieth of the whole time there is.
double seconds_to_end(double step_seconds, double save_seconds, double length_seconds);

}  // namespace trireme
