#pragma once

#include "core/device.h"
#include "core/timed_ops.h"
#include "parallel/cluster_links.h"
#include "parallel/communicator.h"

namespace trireme {

// What large operations reach on this device as a rule: the median of several. Where ranks share
// memory or processors, let all measure at the same time.
DeviceSpeed measure_device(Device& device);

// The links among ranks that are in order by machine, equally many on each: between neighbours in a
// machine, and between machines while all ranks use the network. What there is none of has the
// bandwidth 0. Collective. `device_world`: of that device.
ClusterLinks measure_links(World& device_world, Device& device);

}  // namespace trireme
