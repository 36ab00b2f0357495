#pragma once

#include <string>
#include <vector>

#include "model/engine.h"
#include "parallel/checkpoint_reader.h"
#include "parallel/checkpoint_save.h"

namespace trireme {

// The pieces of the engine's parameters and optimizer state that this rank saves. Their data lies
// in the device's memory and changes with the next step. Collective.
std::vector<CheckpointPiece> checkpoint_pieces(Engine& engine);

// Reads parameters, and optimizer state where the engine has one, from a checkpoint that any mesh
// wrote. Without communication, so that a rank may fail alone; the engine works again after
// publish_model. Throws CheckpointMismatch when it is of another model, Error (bad_data) when it is
// damaged.
void read_model(Engine& engine, CheckpointReader& reader);
// Brings what was read to where the next step expects it. Collective.
void publish_model(Engine& engine);

}  // namespace trireme
