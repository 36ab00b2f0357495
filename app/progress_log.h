#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "core/log.h"

namespace trireme {

// How far long work has come and how much time is left, in lines of the log: the first after ten
// seconds, then one every half a minute. Refers to the log.
class ProgressLog {
public:
    // "evaluated", "batches"
    ProgressLog(Log& log, std::string verb, std::string things);

    void operator()(int64_t done, int64_t total);

private:
    using Clock = std::chrono::steady_clock;

    Log& log_;
    const std::string verb_, things_;
    const Clock::time_point start_ = Clock::now();
    Clock::time_point next_ = start_ + std::chrono::seconds(10);
};

}  // namespace trireme
