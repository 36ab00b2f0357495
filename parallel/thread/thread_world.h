#pragma once

#include <chrono>
#include <functional>

#include "parallel/communicator.h"

namespace trireme {

// As run_thread_ranks(n_ranks, body), where no wait may last longer than timeout: it fails with
// Error (hang), which ends the run.
void run_thread_ranks(int n_ranks, const std::function<void(World&)>& body,
                      std::chrono::milliseconds timeout);

}  // namespace trireme
