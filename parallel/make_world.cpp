#include "parallel/communicator.h"
#include "parallel/mpi/launcher.h"
#include "parallel/mpi/mpi_world.h"
#include "parallel/self_communicator.h"

namespace trireme {

std::unique_ptr<World> make_process_world() {
    if (const Launcher launcher = find_launcher(); launcher.processes != 1) {
        return make_mpi_world(launcher, kCommunicationTimeout);
    }
    return std::make_unique<SelfWorld>();
}

}  // namespace trireme
