#include "app/progress_line.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "app/readable.h"

namespace trireme {

ProgressLine::ProgressLine(std::string verb)
    : verb_(std::move(verb)), is_terminal_(isatty(STDERR_FILENO) != 0) {}

ProgressLine::~ProgressLine() {
    if (shown_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::operator()(uint64_t done, uint64_t total) {
    const auto now = Clock::now();
    if (!is_terminal_ || done == 0 || now - last_ < std::chrono::milliseconds(200)) return;
    last_ = now;
    shown_ = true;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double share = static_cast<double>(done) / static_cast<double>(total);
    const auto left = static_cast<int64_t>(seconds / share - seconds);
    std::fprintf(stderr, "\r\033[K%s %3.0f%% | eta %s", verb_.c_str(), 100 * share,
                 clock_text(left).c_str());
    std::fflush(stderr);
}

}  // namespace trireme
