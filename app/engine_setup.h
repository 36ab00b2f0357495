#pragma once

#include <cstdint>
#include <memory>

#include "app/config.h"
#include "model/engine.h"

namespace trireme {

enum class EngineUse { train, evaluate, generate };

// The mesh of a configuration. Collective; the world must outlive it. Throws Error (config) when
// the mesh does not fit the world.
std::unique_ptr<Mesh> make_mesh(World& world, const Config& config);

// One rank's engine for a configuration, on a device and mesh that outlive it. batch and sequence:
// the micro-batch's sizes, which evaluation and generation choose freely. trace: may be null.
std::unique_ptr<Engine> make_engine(const Config& config, EngineUse use, Device& device, Mesh& mesh,
                                    int64_t batch, int64_t sequence, Trace* trace = nullptr);

}  // namespace trireme
