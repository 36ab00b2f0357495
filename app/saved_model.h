#pragma once

#include <string>
#include <vector>

#include "app/rank_setup.h"
#include "core/log.h"
#include "parallel/checkpoint_manifest.h"

namespace trireme {

// The model that a path of the user's stands for, for commands that read it without training: the
// newest sound checkpoint of a run folder, or the step folder that was named and no other.
class SavedModel {
public:
    // Finds the newest one whose manifest and file sizes are right on rank 0, and says what was
    // skipped. Collective. Throws Error (bad_data) when there is none.
    SavedModel(World& world, const std::string& path, Log& log);

    // Of the checkpoint that load took; until then of the one that it tries first.
    const std::string& folder() const { return folder_; }
    const CheckpointState& state() const { return state_; }

    // Loads it into an engine of its configuration. Where any rank meets damage, all take the
    // checkpoint before, and rank 0 says so. Later calls load the same one. Collective. Throws
    // Error (bad_data) on all ranks when none is sound.
    void load(RankSetup& setup);

private:
    Log& log_;
    std::vector<std::string> folders_;  // to try, the newest first
    std::string folder_;
    CheckpointState state_;
};

}  // namespace trireme
