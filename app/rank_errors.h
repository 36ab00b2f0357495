#pragma once

#include <functional>
#include <string>

#include "core/error.h"
#include "parallel/communicator.h"

namespace trireme {

// Under a launcher that ends a job with the first process that fails (mpirun): runs `check` in
// every process before it joins the others, so that a mistake needs no job to be aborted. Returns
// the exit code, 0 for good. Does nothing elsewhere.
int check_before_joining(const std::function<void(int world_size)>& check);

// Joins the job that the launcher started, runs `body` as one of its ranks and returns the exit
// code. A failure on any rank is reported once, with the rank that met it, and ends all ranks with
// its code.
int run_as_rank(const std::function<void(World&)>& body);

// Runs a part of the body during which messages are under way. A failure is reported and ends all
// ranks from where it is caught, before the memory that messages are written into is freed;
// `before_end`, if given, is told of it first. A world of one rethrows.
void end_ranks_on_failure(
    World& world, const std::function<void()>& part,
    const std::function<void(ExitCode, const std::string& message)>& before_end = {});

}  // namespace trireme
