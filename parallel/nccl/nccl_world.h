#pragma once

#include <chrono>
#include <memory>

#include "core/cuda/cuda_device.h"
#include "parallel/communicator.h"

namespace trireme {

// The ranks of `control`, with communicators over NCCL that carry the memory of `device`, which
// from now on comes from NCCL. Waits longer than timeout fail with Error (hang). `control` finds
// the members of groups, carries what NCCL needs to know to start, and ends the ranks.
//
// Made before the first allocation on the device. Control and device outlive the world, the world
// its communicators.
std::unique_ptr<World> make_nccl_world(World& control, CudaDevice& device,
                                       std::chrono::milliseconds timeout);

}  // namespace trireme
