#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <optional>

#include "app/commands.h"
#include "app/progress_line.h"
#include "core/error.h"
#include "core/processors.h"
#include "data/prepare.h"

namespace trireme {

namespace {

constexpr int64_t kShownSkips = 20;

using Clock = std::chrono::steady_clock;

double megabytes(int64_t bytes) {
    return static_cast<double>(bytes) / 1e6;
}

// One line on a terminal that is written over; silent where nobody would see it move.
class TextProgressLine {
public:
    TextProgressLine() : is_terminal_(isatty(STDERR_FILENO) == 1), start_(Clock::now()) {}
    ~TextProgressLine() { close(); }

    void show(const PrepareOptions::Progress& at) {
        const Clock::time_point now = Clock::now();
        if (!is_terminal_) return;
        const bool is_last = at.total > 0 && at.done >= at.total;
        if (!is_last && is_open_ && now - last_ < std::chrono::milliseconds(200)) return;
        if (!is_open_) first_done_ = at.done;
        last_ = now;
        is_open_ = true;
        const double seconds = std::chrono::duration<double>(now - start_).count();
        const double rate = megabytes(at.text_bytes - at.resumed_bytes) / std::max(seconds, 1e-3);
        if (at.total > 0) {
            // What an interrupted run had done took this one no time.
            const auto done = static_cast<double>(std::max<int64_t>(1, at.done - first_done_));
            const auto left = static_cast<double>(std::max<int64_t>(0, at.total - at.done));
            std::fprintf(stderr, "\rprepare %5.1f%% | %.1f of %.1f MB | %.1f MB/s | %.0f s left   ",
                         100.0 * static_cast<double>(at.done) / static_cast<double>(at.total),
                         megabytes(at.done), megabytes(at.total), rate, seconds * left / done);
        } else {
            std::fprintf(stderr, "\rprepare %.1f MB of text | %.1f MB/s   ",
                         megabytes(at.text_bytes), rate);
        }
        std::fflush(stderr);
    }

    // Ends the line, so that a message can follow.
    void close() {
        if (is_open_) std::fputc('\n', stderr);
        is_open_ = false;
    }

private:
    bool is_terminal_;
    bool is_open_ = false;
    int64_t first_done_ = 0;
    Clock::time_point start_, last_;
};

void print_counts(const std::string& prefix, const PrepareCounts& counts) {
    std::printf("%s.bin, %s.idx: %" PRId64 " %s, %" PRId64 " tokens, %.1f MB of text\n",
                prefix.c_str(), prefix.c_str(), counts.documents,
                counts.documents == 1 ? "document" : "documents", counts.tokens,
                megabytes(counts.bytes));
}

void print_effort(const PrepareResult& result, double seconds) {
    const int64_t bytes = result.train.bytes + result.valid.bytes - result.resumed_bytes;
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    if (result.resumed_bytes > 0) {
        std::printf("went on behind %.1f MB of an interrupted run\n",
                    megabytes(result.resumed_bytes));
    }
    std::printf("%.1f MB in %.1f s, %.1f MB/s, at most %.0f MB of memory\n", megabytes(bytes),
                seconds, megabytes(bytes) / std::max(seconds, 1e-9),
                static_cast<double>(usage.ru_maxrss) * 1024 / 1e6);
}

}  // namespace

int prepare_command(const PrepareArguments& arguments) {
    PrepareOptions options;
    options.inputs = arguments.inputs;
    options.output = arguments.output;
    options.tokenizer = arguments.tokenizer;
    options.text_key = arguments.text_key;
    options.valid_fraction = arguments.valid_fraction;
    options.workers = arguments.workers > 0 ? arguments.workers : available_processors();
    options.format = arguments.format == "text"    ? TextFormat::text
                     : arguments.format == "jsonl" ? TextFormat::json_lines
                                                   : TextFormat::by_name;
    options.on_bad_line = arguments.on_bad_line == "skip" ? BadLine::skip : BadLine::fail;
    PrepareResult result;
    const Clock::time_point start = Clock::now();
    {
        TextProgressLine line;
        std::optional<ProgressLine> check;
        int64_t n_skipped = 0;
        options.on_check = [&](int64_t done, int64_t total) {
            if (!check) check.emplace("checking what a run had finished");
            (*check)(static_cast<uint64_t>(done), static_cast<uint64_t>(total));
        };
        options.progress = [&](const PrepareOptions::Progress& at) {
            check.reset();
            line.show(at);
        };
        options.on_skipped = [&](const std::string& problem) {
            if (++n_skipped > kShownSkips) return;
            line.close();
            std::fprintf(stderr, "skipped %s\n", problem.c_str());
            if (n_skipped == kShownSkips) std::fputs("further ones are only counted\n", stderr);
        };
        result = prepare(options);
    }
    print_counts(result.prefixes.front(), result.train);
    if (result.prefixes.size() > 1) print_counts(result.prefixes.back(), result.valid);
    if (result.skipped_lines > 0) {
        std::printf("skipped %" PRId64 " lines that could not be read\n", result.skipped_lines);
    }
    print_effort(result, std::chrono::duration<double>(Clock::now() - start).count());
    return static_cast<int>(ExitCode::ok);
}

}  // namespace trireme
