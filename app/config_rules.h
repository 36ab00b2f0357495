#pragma once

#include "app/config.h"
#include "app/config_problems.h"

namespace trireme {

// Fills in the defaults that follow from other values, where those make sense.
void fill_defaults(Config& config);

// Checks values against each other. A rule is skipped when a key that it needs is in `problems`
// already, so that one mistake is reported once.
void check_rules(const Config& config, ConfigProblems& problems);

// Fills in mesh.data and checks mesh and batch against the number of processes.
void check_world_rules(Config& config, int world, ConfigProblems& problems);

}  // namespace trireme
