#pragma once

#include <cstdint>
#include <string>

namespace trireme {

// Keeps a batch system from starting a run over and over that never gets to its next checkpoint: a
// file restarts.txt in the run folder counts the starts in a row that found the same newest
// checkpoint. Rank 0 only.
class RestartCounter {
public:
    explicit RestartCounter(const std::string& run_folder) : path_(run_folder + "/restarts.txt") {}

    // Counts a start that goes on from `step`. Throws Error (no_progress) when the `most` starts
    // before this one all began there and ended without a new checkpoint; 0: never.
    void count_start(int64_t step, int most) const;
    // The run has ended as it should.
    void forget() const;

private:
    const std::string path_;
};

}  // namespace trireme
