#include "parallel/device_world.h"

#include "core/cuda/cuda_device.h"
#include "parallel/forwarding_world.h"
#include "parallel/nccl/nccl_world.h"

namespace trireme {

std::unique_ptr<World> make_device_world(World& control, Device& device) {
    if (device.backend() != Backend::cuda) return std::make_unique<ForwardingWorld>(control);
    return make_nccl_world(control, static_cast<CudaDevice&>(device), kCommunicationTimeout);
}

}  // namespace trireme
