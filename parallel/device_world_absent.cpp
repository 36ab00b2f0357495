#include "parallel/device_world.h"
#include "parallel/forwarding_world.h"

namespace trireme {

std::unique_ptr<World> make_device_world(World& control, Device&) {
    return std::make_unique<ForwardingWorld>(control);
}

}  // namespace trireme
