#include "core/cuda_backend.h"

#include <cuda_runtime.h>

#include "core/cuda/cuda_device.h"
#include "core/cuda/cuda_error.h"
#include "core/cuda/driver_environment.h"
#include "core/error.h"
#include "core/processors.h"

namespace trireme {

namespace {

std::string driver_problem() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    cudaGetLastError();
    if (status != cudaSuccess) return cudaGetErrorString(status);
    return count == 0 ? "no GPU is visible" : "";
}

}  // namespace

bool cuda_is_built_in() {
    return true;
}

void prepare_cuda_environment() {
    make_driver_settings();
}

int visible_gpus() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        cudaGetLastError();  // it is not to be reported again by the next call
        return 0;
    }
    return count;
}

std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options, int local_rank,
                                         int local_ranks) {
    if (const std::string problem = driver_problem(); !problem.empty()) {
        throw Error(
            ExitCode::config,
            "device.backend: cuda was asked for, but CUDA finds no GPU it can use: " + problem +
                "; check the driver with nvidia-smi and CUDA_VISIBLE_DEVICES, or set "
                "device.backend: cpu");
    }
    const int gpus = visible_gpus();
    if (local_ranks > gpus && !options.share) {
        throw Error(ExitCode::config,
                    "device: " + std::to_string(local_ranks) + " processes on this machine, but " +
                        std::to_string(gpus) +
                        (gpus == 1 ? " GPU is visible" : " GPUs are visible") +
                        "; start as many processes as GPUs, or set device.share: true to let "
                        "several use one (slow: for tests)");
    }
    return std::make_unique<CudaDevice>(
        local_rank % gpus,
        CudaOpsOptions{.tune_matmul = options.tune, .deterministic = options.deterministic},
        cpu_threads_per_rank(options.threads, available_processors(), local_ranks));
}

}  // namespace trireme
