#pragma once

#include <string>

#include "core/device.h"
#include "parallel/communicator.h"

namespace trireme {

// Rank 0's text on every rank. Collective, blocking. For decisions that one rank takes from a file
// system which the others might see differently.
std::string broadcast_text(Communicator& all, Device& device, const std::string& text);

// The largest of all ranks' values. Collective, blocking.
double largest_of_all(Communicator& all, Device& device, double value);

}  // namespace trireme
