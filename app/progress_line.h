#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace trireme {

// The share that is done and the time left, on the standard error while it is a terminal.
class ProgressLine {
public:
    // verb: "verifying"
    explicit ProgressLine(std::string verb);
    ~ProgressLine();  // takes the line away
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void operator()(uint64_t done, uint64_t total);

private:
    using Clock = std::chrono::steady_clock;
    const std::string verb_;
    const bool is_terminal_;
    const Clock::time_point start_ = Clock::now();
    Clock::time_point last_ = start_;
    bool shown_ = false;
};

}  // namespace trireme
