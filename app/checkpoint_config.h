#pragma once

#include <string>
#include <vector>

#include "app/config.h"
#include "parallel/checkpoint_manifest.h"

namespace trireme {

// The configuration of a checkpoint for evaluation or generation: its own, overridden by `sets`,
// on its own mesh when as many processes run, its context ranks as data ranks, else on tensor x
// data = 1 x processes. Where `sets` name other axes of the mesh, the data axis is what is left.
// micro_batch: sequences that pass through the model together unless `sets` say another number.
Config config_of_checkpoint(const CheckpointState& state, const std::string& folder,
                            const std::vector<std::string>& sets, int world, int micro_batch = 1);

// For what cannot run on a context axis. Throws Error (config).
void check_no_context_axis(const Config& config, const std::string& what);

// For what turns text into tokens. Throws Error (config) with data.tokenizer none.
void check_has_tokenizer(const Config& config, const std::string& what);

}  // namespace trireme
