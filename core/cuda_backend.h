#pragma once

#include <memory>

#include "core/device.h"

namespace trireme {

// The CUDA back end as the rest of the program knows it. A build without CUDA has another source
// file behind this header.

bool cuda_is_built_in();

// Puts what CUDA's driver is to read when it starts into the environment, but for what the user has
// put there. The first thing a program does, before it has threads.
void prepare_cuda_environment();

// GPUs that this process may use: 0 without a driver, without a GPU, and in a build without CUDA.
int visible_gpus();

// Chooses the GPU by local rank. Throws Error (config) that says what is missing: CUDA in the
// build, the driver, or GPUs for all local ranks.
std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options, int local_rank,
                                         int local_ranks);

}  // namespace trireme
