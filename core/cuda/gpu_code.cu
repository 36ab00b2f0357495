#include <string>

#include "core/cuda/gpu_code.h"
#include "core/cuda/launch.h"
#include "core/error.h"

namespace trireme {

namespace {

__global__ void empty_kernel() {}

}  // namespace

void check_code_for_this_gpu(const cudaDeviceProp& properties) {
    cudaFuncAttributes attributes{};
    const cudaError_t status =
        cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&empty_kernel));
    if (status == cudaSuccess) return;
    cudaGetLastError();
    const std::string architecture =
        std::to_string(properties.major) + std::to_string(properties.minor);
    throw Error(ExitCode::config, "this program holds no code for " + std::string(properties.name) +
                                      " (sm_" + architecture + "): " + cudaGetErrorString(status) +
                                      "; build it with -DTRIREME_CUDA_ARCHITECTURES=" +
                                      architecture + " or set device.backend: cpu");
}

}  // namespace trireme
