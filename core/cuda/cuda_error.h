#pragma once

#include <cuda_runtime.h>

namespace trireme {

// Throws the Error that fits a failed call: out_of_memory when device memory is exhausted, config
// when there is no driver, no GPU or no code for this GPU in the program, internal otherwise.
// `what` names the call, as in "cudaMalloc of 12 bytes".
void check_cuda(cudaError_t status, const char* what);

}  // namespace trireme
