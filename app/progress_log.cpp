#include "app/progress_log.h"

#include <cmath>
#include <utility>

#include "app/readable.h"

namespace trireme {

ProgressLog::ProgressLog(Log& log, std::string verb, std::string things)
    : log_(log), verb_(std::move(verb)), things_(std::move(things)) {}

void ProgressLog::operator()(int64_t done, int64_t total) {
    const Clock::time_point now = Clock::now();
    if (done == 0 || now < next_) return;
    next_ = now + std::chrono::seconds(30);
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double left = seconds * static_cast<double>(total - done) / static_cast<double>(done);
    log_.info(verb_ + " " + std::to_string(done) + " of " + std::to_string(total) + " " + things_ +
              " | eta " + clock_text(std::llround(left)));
}

}  // namespace trireme
