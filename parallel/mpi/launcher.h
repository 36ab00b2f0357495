#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace trireme {

// How a process was started, from the variables that a launcher leaves in its environment. MPI
// itself is not touched, so this may be asked at any time. The only place that knows such names.
struct Launcher {
    enum class Kind { none, open_mpi, slurm, pmi, pmix, torchrun };

    Kind kind = Kind::none;
    std::string name;          // for messages; empty: none
    int processes = 1;         // 0: a launcher that does not say how many
    int rank = -1;             // -1: not known; likewise
    int local_rank = -1;       // among those that it has started on this host
    bool offers_pmix = false;  // what Open MPI's processes find one another by
    // Tasks of the Slurm job that this process runs in, even when srun has not started it; 0: none.
    int job_tasks = 0;
};

// A variable's value; empty: not set.
using Variables = std::function<std::string(const char* name)>;

Launcher find_launcher(const Variables& variables);
Launcher find_launcher();  // of this process

// Of another process: `environment` as in /proc/PID/environ.
Launcher find_launcher(std::string_view environment);

// Why processes so started could not find one another as ranks, and what to do; empty: they can.
// is_open_mpi: what this program was built with. MPI would end each of them without a word that
// helps, or let each believe that it is alone.
std::string launch_problem(const Launcher& launcher, bool is_open_mpi);

}  // namespace trireme
