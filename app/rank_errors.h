#pragma once

#include <functional>

#include "parallel/communicator.h"

namespace trireme {

// Joins the job that the launcher started, runs `body` as one of its ranks and returns the exit
// code. A failure on any rank is reported once, with the rank that met it, and ends all ranks with
// its code.
int run_as_rank(const std::function<void(World&)>& body);

}  // namespace trireme
