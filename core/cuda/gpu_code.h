#pragma once

#include <cuda_runtime.h>

namespace trireme {

// Throws Error (config) when this program holds no kernels that run on the current GPU.
void check_code_for_this_gpu(const cudaDeviceProp& properties);

}  // namespace trireme
