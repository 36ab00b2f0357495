#pragma once

#include <string>

namespace trireme {

// How this process was started, from the variables a launcher (mpirun, srun) leaves in the
// environment. MPI itself is not touched.
struct Launcher {
    std::string name;    // empty: none
    int processes = 1;   // 0: a launcher, which does not say how many
};

Launcher find_launcher();

}  // namespace trireme
