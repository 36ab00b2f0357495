#include "core/cuda/cuda_error.h"

#include <string>

#include "core/error.h"

namespace trireme {

namespace {

ExitCode code_of(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation:
            return ExitCode::out_of_memory;
        case cudaErrorNoDevice:
        case cudaErrorInsufficientDriver:
        case cudaErrorInvalidDevice:
        case cudaErrorNoKernelImageForDevice:
            return ExitCode::config;
        default:
            return ExitCode::internal;
    }
}

std::string advice_for(cudaError_t status) {
    switch (status) {
        case cudaErrorNoDevice:
            return "; set device.backend: cpu, or check nvidia-smi";
        case cudaErrorInsufficientDriver:
            return "; install an NVIDIA driver that is new enough for this CUDA, or set "
                   "device.backend: cpu";
        case cudaErrorNoKernelImageForDevice:
            return "; this program was built for other GPUs: build it with "
                   "-DTRIREME_CUDA_ARCHITECTURES for this one";
        default:
            return "";
    }
}

}  // namespace

void check_cuda(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    throw Error(code_of(status), std::string(what) + ": " + cudaGetErrorString(status) + " (" +
                                     cudaGetErrorName(status) + ")" + advice_for(status));
}

}  // namespace trireme
