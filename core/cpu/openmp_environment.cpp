#include "core/cpu/openmp_environment.h"

#include <sys/auxv.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace trireme {

bool are_processors_busy(const std::string& stat, int processors) {
    const std::string key = "\nprocs_running ";
    const size_t at = stat.find(key);
    return at != std::string::npos && std::atoi(stat.c_str() + at + key.size()) > processors;
}

void prepare_openmp_environment(char** argv) {
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    // Started as an argument of the dynamic loader, which then has no loader itself: the program
    // that would be started anew is the loader, with arguments that it does not understand.
    if (getauxval(AT_BASE) == 0) return;
    std::ifstream file("/proc/stat");
    const std::string stat(std::istreambuf_iterator<char>(file), {});
    if (!are_processors_busy(stat, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)))) return;
    // As little as the library itself spins when it has more threads than processors.
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv);
}

}  // namespace trireme
