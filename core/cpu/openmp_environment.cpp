#include "core/cpu/openmp_environment.h"

#include <unistd.h>

#include <cstdlib>

namespace trireme {

void prepare_openmp_environment(char** argv) {
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv);
}

}  // namespace trireme
