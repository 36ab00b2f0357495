#include "parallel/mpi/launcher.h"

#include <cstdlib>

namespace trireme {

namespace {

int number_or(const std::string& text, int otherwise) {
    if (text.empty()) return otherwise;
    char* end = nullptr;
    const long value = std::strtol(text.c_str(), &end, 10);
    return *end == '\0' && value >= 0 && value < 1'000'000'000 ? static_cast<int>(value)
                                                               : otherwise;
}

}  // namespace

Launcher find_launcher(const Variables& variables) {
    using Kind = Launcher::Kind;
    const auto number = [&](const char* name, int otherwise) {
        return number_or(variables(name), otherwise);
    };
    Launcher launcher;
    const auto found = [&](Kind kind, const char* name, int processes, const char* rank,
                           const char* local_rank) {
        launcher.kind = kind;
        launcher.name = name;
        launcher.processes = processes;
        launcher.rank = number(rank, -1);
        launcher.local_rank = local_rank ? number(local_rank, -1) : -1;
        return launcher;
    };
    launcher.offers_pmix = number("PMIX_RANK", -1) >= 0;
    launcher.job_tasks = number("SLURM_NTASKS", 0);
    // The innermost comes first: mpirun may run in a task of srun, not the other way round.
    if (const int size = number("OMPI_COMM_WORLD_SIZE", 0); size > 0) {
        return found(Kind::open_mpi, "mpirun (Open MPI)", size, "OMPI_COMM_WORLD_RANK",
                     "OMPI_COMM_WORLD_LOCAL_RANK");
    }
    if (const int size = number("PMI_SIZE", 0); size > 0 && !variables("MPI_LOCALRANKID").empty()) {
        return found(Kind::pmi, "mpiexec (PMI)", size, "PMI_RANK", "MPI_LOCALRANKID");
    }
    if (const int size = number("WORLD_SIZE", 0);
        size > 0 && !variables("TORCHELASTIC_RUN_ID").empty()) {
        return found(Kind::torchrun, "torchrun", size, "RANK", "LOCAL_RANK");
    }
    // A batch script has SLURM_PROCID as well, but is no step.
    if (const int size = number("SLURM_STEP_NUM_TASKS", 0);
        size > 0 && number("SLURM_PROCID", -1) >= 0) {
        return found(Kind::slurm, "srun", size, "SLURM_PROCID", "SLURM_LOCALID");
    }
    if (const int size = number("PMI_SIZE", 0); size > 0) {
        return found(Kind::pmi, "mpiexec (PMI)", size, "PMI_RANK", nullptr);
    }
    if (launcher.offers_pmix) return found(Kind::pmix, "a PMIx launcher", 0, "PMIX_RANK", nullptr);
    return launcher;
}

Launcher find_launcher() {
    return find_launcher(Variables([](const char* name) {
        const char* text = std::getenv(name);
        return std::string(text ? text : "");
    }));
}

Launcher find_launcher(std::string_view environment) {
    return find_launcher(Variables([&](const char* name) {
        const std::string start = std::string(name) + "=";
        for (size_t at = 0; at < environment.size();) {
            const std::string_view entry = environment.substr(at, environment.find('\0', at) - at);
            if (entry.starts_with(start)) return std::string(entry.substr(start.size()));
            at += entry.size() + 1;
        }
        return std::string();
    }));
}

std::string launch_problem(const Launcher& launcher, bool is_open_mpi) {
    using Kind = Launcher::Kind;
    if (launcher.processes == 1 || launcher.kind == Kind::none) return {};
    const std::string started =
        launcher.name + " started " + std::to_string(launcher.processes) + " processes";
    if (launcher.kind == Kind::torchrun) {
        return started +
               ", found from its environment, but this program expects MPI; start it "
               "with mpirun -n N, or in Slurm with srun --mpi=pmix";
    }
    if (!is_open_mpi || launcher.kind == Kind::open_mpi || launcher.offers_pmix) return {};
    if (launcher.kind == Kind::slurm) {
        return started +
               " without PMIx (PMIX_RANK is not set), by which Open MPI's processes find "
               "one another; start with srun --mpi=pmix (srun --mpi=list shows what this "
               "Slurm has), or with mpirun in place of srun in the same job";
    }
    return started +
           ", but this program was built with Open MPI, and this is another MPI's "
           "launcher (PMI_SIZE is set, OMPI_COMM_WORLD_SIZE is not); start with Open "
           "MPI's mpirun, or in Slurm with srun --mpi=pmix";
}

}  // namespace trireme
