#include "core/processors.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/host_limits.h"

namespace trireme {

namespace {

// Processors that the kernel may run this process on.
int affine_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

}  // namespace

int cpu_threads_per_rank(int asked, int processors, int local_ranks) {
    if (asked > 0) return asked;
    return std::max(1, processors / std::max(1, local_ranks));
}

double cpu_share(int threads, int processors, int local_ranks, int machine_processors) {
    const int64_t ranks = std::max(1, local_ranks);
    // Bound to cores of its own, as far as one rank can tell.
    if (processors * ranks <= machine_processors) return 1.0;
    const auto wanted = static_cast<double>(ranks * std::max(1, threads));
    return std::min(1.0, static_cast<double>(processors) / wanted);
}

double cpu_share_of_rank(int asked_threads, int local_ranks) {
    const int machine = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    const int threads = cpu_threads_per_rank(asked_threads, available_processors(), local_ranks);
    const double allowed = processor_quota() / (std::max(1, threads) * std::max(1, local_ranks));
    return std::min(cpu_share(threads, affine_processors(), local_ranks, machine), allowed);
}

int available_processors() {
    const double quota = std::max(1.0, std::round(processor_quota()));
    return static_cast<int>(std::min<double>(affine_processors(), quota));
}

}  // namespace trireme
