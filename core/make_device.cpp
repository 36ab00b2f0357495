#include <memory>
#include <string>

#include "core/cpu/cpu_device.h"
#include "core/device.h"

namespace trireme {

std::unique_ptr<Device> make_device(const DeviceOptions& options, int /*local_rank*/,
                                    int local_ranks) {
    if (options.backend == Backend::cuda) {
        throw Error(ExitCode::config,
                    "device 'cuda' was asked for, but this program was built without CUDA; use "
                    "'cpu' or 'automatic', or build with CUDA");
    }
    if (options.threads < 0) {
        throw Error(ExitCode::config, "threads is " + std::to_string(options.threads) +
                                          ", expected 0 (cores / local ranks) or more");
    }
    return std::make_unique<CpuDevice>(
        cpu_threads_per_rank(options.threads, available_processors(), local_ranks));
}

}  // namespace trireme
