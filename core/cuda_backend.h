#pragma once

#include <memory>

#include "core/device.h"

namespace trireme {

// The CUDA back end as the rest of the program knows it. A build without CUDA has another source
// file behind this header.

bool cuda_is_built_in();

// GPUs that this process may use: 0 without a driver, without a GPU, and in a build without CUDA.
int visible_gpus();

// Chooses the GPU by local rank. Throws Error (config) that says what is missing: CUDA in the
// build, the driver, or GPUs for all local ranks.
std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options, int local_rank,
                                         int local_ranks);

}  // namespace trireme
