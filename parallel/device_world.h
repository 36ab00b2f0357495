#pragma once

#include <memory>

#include "core/device.h"
#include "parallel/communicator.h"

namespace trireme {

// The same ranks as `control`, with communicators that carry this device's memory, in the order of
// its compute stream. Made before the first allocation on the device; both outlive it. A build
// without CUDA has another source file behind this header.
std::unique_ptr<World> make_device_world(World& control, Device& device);

}  // namespace trireme
