#pragma once

#include <string>
#include <vector>

#include "core/cpu/cpu_device.h"
#include "parallel/communicator.h"

namespace trireme::testing {

// What every carrier must do, run by all ranks of a world of any size. These throw
// std::runtime_error saying what differs; Catch2's own checks are not made for several threads.
struct CommunicatorCase {
    std::string name;
    void (*run)(World& world);
};
const std::vector<CommunicatorCase>& communicator_cases();

}  // namespace trireme::testing
