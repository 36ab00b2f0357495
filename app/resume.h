#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/rank_setup.h"
#include "core/log.h"
#include "parallel/checkpoint_manifest.h"

namespace trireme {

// A key that is not what it was when the checkpoint was written.
struct ConfigChange {
    std::string key, before, now;  // values as YAML

    std::string to_string() const { return key + ": found " + now + ", expected " + before; }
};

struct ConfigChanges {
    std::vector<ConfigChange> structural, trajectory;
};

// Compares by the schema's classes; operational keys are left out. Throws Error (config) when the
// text cannot be read.
ConfigChanges changes_since(const std::string& former_config, const Config& config);

// Where training goes on.
struct ResumePoint {
    int64_t step = 0;     // the last that has been done
    int64_t samples = 0;  // consumed so far
    int64_t tokens = 0;   // likewise
    // What a checkpoint carries in CheckpointState::extra: the datasets' fingerprints, and a record
    // of each resume with what changed.
    std::map<std::string, std::string> extra;
    // All that the checkpoint carried there.
    std::map<std::string, std::string> former_extra;
    std::string record;  // of this resume, JSON; empty at a fresh start
};

// Loads what checkpoint.resume asks for, the newest that every rank finds sound, into the engine,
// which draws its initial values when there is nothing to load. Says what was skipped and what has
// changed. Collective. Throws Error (bad_data) when all are damaged, when the model is another one
// or the training data has changed.
ResumePoint resume_training(RankSetup& setup, const Config& config, Log& log);

}  // namespace trireme
