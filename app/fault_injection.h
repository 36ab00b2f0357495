#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/config.h"
#include "model/engine.h"

namespace trireme {

// Carries out `testing.faults` that are due on this rank in this step. Called while a step begins:
// its gradients are zero and nothing has been added to them. Throws Error (config) when this rank
// does not hold the tensor.
void inject_faults(const std::vector<FaultOptions>& faults, int rank, int64_t step, Engine& engine);

}  // namespace trireme
