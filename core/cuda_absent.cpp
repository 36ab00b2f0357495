#include "core/cuda_backend.h"
#include "core/error.h"

namespace trireme {

bool cuda_is_built_in() {
    return false;
}

void prepare_cuda_environment() {}

int visible_gpus() {
    return 0;
}

std::unique_ptr<Device> make_cuda_device(const DeviceOptions&, int, int) {
    throw Error(ExitCode::config,
                "device.backend: cuda was asked for, but this program was built without CUDA; use "
                "'cpu' or 'auto', or build it with CUDA (cmake --preset cuda)");
}

}  // namespace trireme
