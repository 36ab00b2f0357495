#include "parallel/mpi/launcher.h"

#include <cstdlib>

namespace trireme {

namespace {

int number_or(const char* variable, int otherwise) {
    const char* text = std::getenv(variable);
    if (!text || !*text) return otherwise;
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    return end && *end == '\0' && value >= 0 && value < 1'000'000'000 ? static_cast<int>(value)
                                                                      : otherwise;
}

}  // namespace

Launcher find_launcher() {
    if (const int size = number_or("OMPI_COMM_WORLD_SIZE", 0); size > 0) {
        return {"mpirun (Open MPI)", size};
    }
    // A batch script is itself a Slurm task, of a step with one task.
    if (const int size = number_or("SLURM_STEP_NUM_TASKS", 0);
        size > 0 && number_or("SLURM_PROCID", -1) >= 0) {
        return {"srun", size};
    }
    if (const int size = number_or("PMI_SIZE", 0); size > 0) {
        return {"mpiexec (PMI)", size};
    }
    if (number_or("PMIX_RANK", -1) >= 0) return {"a PMIx launcher", 0};
    return {};
}

}  // namespace trireme
