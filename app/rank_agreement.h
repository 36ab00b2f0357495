#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "app/config.h"
#include "core/log.h"
#include "data/data_options.h"
#include "parallel/communicator.h"

namespace trireme {

// What ranks read for themselves and must have read alike: a file may change while a job starts,
// and not every node sees it at the same time. Collective; errors are thrown on all ranks.

// Throws Error (config) when a rank's configuration is not rank 0's, with the rank and the first
// key that differs. Threads may: nodes may have different processors.
void check_same_config(World& world, const Config& config);

// Throws Error (bad_data) when the datasets that a rank finds are not rank 0's by their
// fingerprints (data/fingerprint.h), with the rank, its host, the first dataset that differs and
// both fingerprints; and when a rank cannot read one. The same number of datasets on all ranks.
void check_same_data(World& world, std::span<const DataSourceOptions> sources);

// The same of tokens that each rank made of a file or text with a tokenizer it read for itself.
void check_same_tokens(World& world, const std::string& name, std::span<const int32_t> tokens);

// The checkpoint folders that rank 0 finds at `path`, the newest first: usable_checkpoints_at for
// all ranks. What it had to skip is logged.
std::vector<std::string> agreed_checkpoints(World& world, const std::string& path, Log& log);

}  // namespace trireme
