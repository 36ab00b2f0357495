#pragma once

#include <string>

#include "model/engine.h"
#include "parallel/checkpoint.h"

namespace trireme {

// Writes the engine's parameters and optimizer state as folder/step-N. Collective, blocking.
void save_model(Engine& engine, ControlGroup& group, const std::string& folder,
                const CheckpointState& state);

// Reads parameters, and optimizer state where the engine has one, from a checkpoint that any mesh
// wrote. Collective. Throws Error (bad_data) when it is of another model.
void load_model(Engine& engine, CheckpointReader& reader);

}  // namespace trireme
