#pragma once

#include <string>
#include <vector>

#include "model/engine.h"
#include "parallel/control_group.h"

namespace trireme {

// Compares what several ranks hold alike: parameters over the data and context axes, norms and
// shared key/value heads over the tensor axis, optimizer state where it is replicated, by checksum
// of every tensor. Between steps. Collective; every rank gets the same lines, one a tensor that
// differs, with the ranks in the minority: "parameter/final_norm.weight: rank 2 differs from ranks
// 0, 1, 3"; where there is none, "...: ranks 0, 1 differ from one another".
std::vector<std::string> find_drifted_replicas(Engine& engine, ControlGroup& control);

}  // namespace trireme
