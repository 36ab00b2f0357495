#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/checkpoint_reader.h"
#include "parallel/control_group.h"

namespace trireme {

// What to do when a run has no sound checkpoint to go on from.
inline constexpr const char* kResumeAdvice =
    "give another one in checkpoint.resume, or checkpoint.resume=never and another run.output to "
    "start afresh";

struct LoadChoice {
    std::string folder;                // the one that was loaded; empty: there was none to try
    std::vector<std::string> skipped;  // newer ones, with what is wrong with each
};

// Loads the first of rank 0's `folders` that all ranks find sound. `load` takes from the reader
// what this rank needs; it must not communicate, since it may fail on this rank alone. When any
// rank meets damage (Error bad_data or io), all of them try the next folder, whatever they have
// read; so `load` must replace all that an earlier call has loaded. Collective. Throws on all ranks
// alike: Error (bad_data) listing what is wrong when every folder is damaged, with `advice` at its
// end, and at once any other Error of `load`, such as CheckpointMismatch.
LoadChoice load_first_sound(ControlGroup& group, const std::vector<std::string>& folders,
                            const std::function<void(CheckpointReader&)>& load,
                            const std::string& advice = kResumeAdvice);

// Folders to try for a path that a user gave: a step folder itself, nothing else then; or the
// checkpoints of a run folder or a checkpoints folder, newest first. Throws Error (bad_data) when
// there is none.
std::vector<std::string> checkpoints_at(const std::string& path);

// Those of them from the first on whose manifest and file sizes are right: at least one. What is
// wrong with newer ones is added to `skipped`. Throws Error (bad_data) when there is none.
std::vector<std::string> usable_checkpoints_at(const std::string& path,
                                               std::vector<std::string>& skipped);

}  // namespace trireme
