#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <thread>

#include "app/commands.h"
#include "core/error.h"
#include "data/prepare.h"

namespace trireme {

namespace {

using Clock = std::chrono::steady_clock;

// One line on a terminal that is written over; silent where nobody would see it move.
class ProgressLine {
public:
    ProgressLine() : is_terminal_(isatty(STDERR_FILENO) == 1), start_(Clock::now()) {}
    ~ProgressLine() {
        if (is_open_) std::fputc('\n', stderr);
    }

    void show(int64_t done, int64_t total) {
        const Clock::time_point now = Clock::now();
        const bool is_last = done >= total;
        if (!is_terminal_ || total <= 0) return;
        if (!is_last && is_open_ && now - last_ < std::chrono::milliseconds(200)) return;
        last_ = now;
        is_open_ = true;
        const double seconds = std::chrono::duration<double>(now - start_).count();
        const double share =
            std::clamp(static_cast<double>(done) / static_cast<double>(total), 1e-9, 1.0);
        std::fprintf(stderr, "\rprepare %5.1f%% | %.1f of %.1f MB | %.0f s left   ", 100.0 * share,
                     static_cast<double>(done) / 1e6, static_cast<double>(total) / 1e6,
                     seconds / share - seconds);
        std::fflush(stderr);
    }

private:
    bool is_terminal_;
    bool is_open_ = false;
    Clock::time_point start_, last_;
};

void print_counts(const std::string& prefix, const PrepareCounts& counts) {
    std::printf("%s.bin, %s.idx: %" PRId64 " documents, %" PRId64 " tokens, %.1f MB of text\n",
                prefix.c_str(), prefix.c_str(), counts.documents, counts.tokens,
                static_cast<double>(counts.bytes) / 1e6);
}

}  // namespace

int prepare_command(const PrepareArguments& arguments) {
    PrepareOptions options;
    options.inputs = arguments.inputs;
    options.output = arguments.output;
    options.tokenizer = arguments.tokenizer;
    options.text_key = arguments.text_key;
    options.valid_fraction = arguments.valid_fraction;
    options.workers = arguments.workers > 0
                          ? arguments.workers
                          : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    PrepareResult result;
    {
        ProgressLine line;
        options.progress = [&](int64_t done, int64_t total) { line.show(done, total); };
        result = prepare(options);
    }
    print_counts(result.prefixes.front(), result.train);
    if (result.prefixes.size() > 1) print_counts(result.prefixes.back(), result.valid);
    return static_cast<int>(ExitCode::ok);
}

}  // namespace trireme
