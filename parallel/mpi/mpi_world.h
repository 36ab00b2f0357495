#pragma once

#include <chrono>
#include <memory>

#include "parallel/communicator.h"
#include "parallel/mpi/launcher.h"

namespace trireme {

// This process as one rank of an MPI job. A thread of the background owns MPI: it starts it, makes
// every call and finalizes it when the world is destroyed. Waits longer than timeout fail with
// Error (hang).
//
// A rank that fails must call abort while the world is still alive; a world destroyed by an
// exception leaves MPI without finalizing, which would wait for the others, and the launcher then
// ends the job. Throws Error (config) when MPI and the launcher disagree about the ranks.
//
// rendezvous, for tests: a send is complete only once its receiver has posted the receive and the
// message is on its way there (MPI_Issend); otherwise small messages leave before.
std::unique_ptr<World> make_mpi_world(const Launcher& launcher, std::chrono::milliseconds timeout,
                                      bool rendezvous = false);

}  // namespace trireme
