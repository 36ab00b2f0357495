#include "parallel/mpi/launcher.h"

#include <catch2/catch.hpp>
#include <map>
#include <string>

namespace trireme::test {

namespace {

using Kind = Launcher::Kind;

Launcher with(const std::map<std::string, std::string>& environment) {
    return find_launcher(Variables([&](const char* name) {
        const auto at = environment.find(name);
        return at == environment.end() ? std::string() : at->second;
    }));
}

const std::map<std::string, std::string> kTaskOfSrun = {{"SLURM_NTASKS", "4"},
                                                        {"SLURM_STEP_NUM_TASKS", "4"},
                                                        {"SLURM_PROCID", "3"},
                                                        {"SLURM_LOCALID", "1"}};

}  // namespace

TEST_CASE("a process by itself has no launcher", "[parallel][launcher]") {
    const Launcher launcher = with({});
    CHECK(launcher.kind == Kind::none);
    CHECK(launcher.processes == 1);
    CHECK(launcher.rank == -1);
    CHECK(launch_problem(launcher, true).empty());
}

TEST_CASE("the launcher is found from the environment", "[parallel][launcher]") {
    const Launcher open_mpi = with({{"OMPI_COMM_WORLD_SIZE", "8"},
                                    {"OMPI_COMM_WORLD_RANK", "5"},
                                    {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}});
    CHECK(open_mpi.kind == Kind::open_mpi);
    CHECK(open_mpi.processes == 8);
    CHECK(open_mpi.rank == 5);
    CHECK(open_mpi.local_rank == 1);

    const Launcher srun = with(kTaskOfSrun);
    CHECK(srun.kind == Kind::slurm);
    CHECK(srun.processes == 4);
    CHECK(srun.rank == 3);
    CHECK(srun.local_rank == 1);

    const Launcher hydra = with({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}, {"MPI_LOCALRANKID", "0"}});
    CHECK(hydra.kind == Kind::pmi);
    CHECK(hydra.processes == 2);
    CHECK(hydra.rank == 1);
    CHECK(hydra.local_rank == 0);

    const Launcher pmix = with({{"PMIX_RANK", "3"}});
    CHECK(pmix.kind == Kind::pmix);
    CHECK(pmix.processes == 0);
    CHECK(pmix.rank == 3);

    auto in_a_task = kTaskOfSrun;
    in_a_task["OMPI_COMM_WORLD_SIZE"] = "2";
    CHECK(with(in_a_task).processes == 2);
    in_a_task["OMPI_COMM_WORLD_SIZE"] = "2x";
    CHECK(with(in_a_task).processes == 4);
}

TEST_CASE("a batch script is no task of srun", "[parallel][launcher]") {
    const Launcher script = with({{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}});
    CHECK(script.kind == Kind::none);
    CHECK(script.processes == 1);
    CHECK(script.job_tasks == 8);
}

TEST_CASE("another process's launcher is read from its environment block", "[parallel][launcher]") {
    using namespace std::string_literals;
    const std::string block =
        "HOME=/\0XPMI_RANK=7\0OMPI_COMM_WORLD_SIZE=4\0OMPI_COMM_WORLD_RANK=2\0"s;
    CHECK(find_launcher(std::string_view(block)).rank == 2);
    CHECK(find_launcher(std::string_view("HOME=/")).rank == -1);
    CHECK(find_launcher(std::string_view()).rank == -1);
}

TEST_CASE("a launch in which ranks would not meet is refused with a remedy",
          "[parallel][launcher]") {
    using Catch::Contains;
    auto task = kTaskOfSrun;
    CHECK_THAT(launch_problem(with(task), true),
               Contains("srun started 4 processes") && Contains("srun --mpi=pmix"));
    CHECK(launch_problem(with(task), false).empty());
    task["PMI_SIZE"] = "4";  // --mpi=pmi2
    CHECK_THAT(launch_problem(with(task), true), Contains("srun --mpi=pmix"));
    task["PMIX_RANK"] = "3";
    CHECK(launch_problem(with(task), true).empty());

    const Launcher hydra = with({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}});
    CHECK_THAT(launch_problem(hydra, true), Contains("another MPI's launcher"));
    CHECK(launch_problem(hydra, false).empty());

    const std::map<std::string, std::string> torchrun = {
        {"TORCHELASTIC_RUN_ID", "x"}, {"WORLD_SIZE", "2"}, {"RANK", "0"}};
    CHECK_THAT(launch_problem(with(torchrun), true), Contains("expects MPI"));
    // Containers set these for any job.
    CHECK(with({{"WORLD_SIZE", "2"}, {"RANK", "0"}}).kind == Kind::none);
    CHECK(launch_problem(with({{"OMPI_COMM_WORLD_SIZE", "2"}}), true).empty());
    CHECK(
        launch_problem(with({{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}}), true).empty());
}

}  // namespace trireme::test
