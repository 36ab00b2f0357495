#include "app/restart_counter.h"

#include <filesystem>
#include <sstream>

#include "core/error.h"
#include "core/file_io.h"

namespace trireme {

void RestartCounter::count_start(int64_t step, int most) const {
    if (most == 0) return;
    int64_t starts = 0, from = -1;
    std::error_code unknown;
    if (std::filesystem::exists(path_, unknown)) {
        try {
            std::string word;
            std::istringstream text(read_file(path_, 4096));
            text >> word >> starts >> word >> from;
            if (!text || starts < 0) starts = 0;
        } catch (const Error&) {
            starts = 0;  // a damaged counter stops no run
        }
    }
    if (from != step) starts = 0;
    if (starts >= most) {
        throw Error(ExitCode::no_progress,
                    "the last " + std::to_string(starts) + " starts all began at step " +
                        std::to_string(step) +
                        " and ended without a new checkpoint; not started again. Find out from "
                        "their messages why they ended (or save more often: checkpoint.interval), "
                        "then delete " +
                        path_ + " or start with --set run.max_restarts=0");
    }
    replace_file(path_,
                 "starts " + std::to_string(starts + 1) + "\nstep " + std::to_string(step) + "\n");
}

void RestartCounter::forget() const {
    remove_tree(path_);
}

}  // namespace trireme
