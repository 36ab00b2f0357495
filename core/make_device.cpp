#include <memory>
#include <string>

#include "core/cpu/cpu_device.h"
#include "core/cuda_backend.h"
#include "core/device.h"
#include "core/processors.h"

namespace trireme {

std::unique_ptr<Device> make_device(const DeviceOptions& options, int local_rank,
                                    int local_ranks) {
    const bool found_gpu = options.backend == Backend::automatic && visible_gpus() > 0;
    if (options.backend == Backend::cuda || found_gpu) {
        return make_cuda_device(options, local_rank, local_ranks);
    }
    if (options.threads < 0) {
        throw Error(ExitCode::config, "threads is " + std::to_string(options.threads) +
                                          ", expected 0 (cores / local ranks) or more");
    }
    return std::make_unique<CpuDevice>(
        cpu_threads_per_rank(options.threads, available_processors(), local_ranks));
}

}  // namespace trireme
