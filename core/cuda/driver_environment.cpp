#include "core/cuda/driver_environment.h"

#include <cstdlib>

namespace trireme {

namespace {

constexpr DriverSetting kSettings[] = {
    // Streams beyond the number of hardware queues share one, and what waits in it for another rank
    // holds up the others in it. A rank has a stream for compute and one for each communicator, two
    // or more of them for each direction of the pipeline. 32 queues are the most there are.
    {"CUDA_DEVICE_MAX_CONNECTIONS", "32"},
    // Loading a kernel at its first launch may wait for all that runs on the GPU. A kernel of NCCL
    // that runs there may wait for another rank, and that for this launch.
    {"CUDA_MODULE_LOADING", "EAGER"},
};

}  // namespace

std::vector<DriverSetting> missing_driver_settings(
    const std::function<const char*(const char*)>& lookup) {
    std::vector<DriverSetting> missing;
    for (const DriverSetting& setting : kSettings) {
        if (!lookup(setting.name)) missing.push_back(setting);
    }
    return missing;
}

void make_driver_settings() {
    for (const DriverSetting& setting : missing_driver_settings(std::getenv)) {
        setenv(setting.name, setting.value, 0);
    }
}

}  // namespace trireme
