#include <link.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"
#include "tests/core/whole_file.h"

namespace trireme::test {

TEST_CASE("a task of an srun without PMIx ends with a remedy before MPI starts", "[app][launch]") {
    const TemporaryFolder folder;
    make_data(folder.path(), "text", 60);
    write_text(folder.path() + "/run.yaml", tiny_run(1));
    const auto as_task = [&](const std::string& rank) {
        return run_program(
            {"env", "-u", "PMIX_RANK", "-u", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS=2",
             "SLURM_PROCID=" + rank, TRIREME_BINARY_DIR "/bin/trireme", "train", "run.yaml"},
            folder.path());
    };
    const Outcome first = as_task("0");
    CHECK(first.code == 78);
    CHECK_THAT(first.error, Catch::Contains("srun started 2 processes without PMIx") &&
                                Catch::Contains("srun --mpi=pmix"));
    // Of many tasks one speaks.
    const Outcome second = as_task("1");
    CHECK(second.code == 78);
    CHECK(second.error == "");
}

TEST_CASE("how long idle compute threads spin is left to the user", "[app][launch]") {
    const TemporaryFolder folder;
    const auto settings_with = [&](const std::string& setting) {
        const Outcome outcome = run_program(
            {"env", "-u", "GOMP_SPINCOUNT", "-u", "OMP_WAIT_POLICY", "OMP_DISPLAY_ENV=verbose",
             setting, TRIREME_BINARY_DIR "/bin/trireme", "--version"},
            folder.path());
        CHECK(outcome.code == 0);
        return outcome.error;
    };
    CHECK_THAT(settings_with("GOMP_SPINCOUNT=77"),
               Catch::Contains("GOMP_SPINCOUNT = '77'") && !Catch::Contains("'1000'"));
    CHECK_THAT(settings_with("OMP_WAIT_POLICY=active"),
               Catch::Contains("OMP_WAIT_POLICY = 'ACTIVE'") && !Catch::Contains("'1000'"));
    // Whether it is set for the user depends on who else runs: it works either way.
    CHECK_THAT(settings_with("OTHER=1"), Catch::Contains("GOMP_SPINCOUNT"));
}

TEST_CASE("started through the dynamic loader the program is itself on busy processors",
          "[app][launch]") {
    std::string loader;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* found) {
            for (int i = 0; i < info->dlpi_phnum; ++i) {
                if (info->dlpi_phdr[i].p_type != PT_INTERP) continue;
                const auto at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
                *static_cast<std::string*>(found) = reinterpret_cast<const char*>(at);
            }
            return 1;  // the first is this program
        },
        &loader);
    REQUIRE(!loader.empty());
    std::atomic<bool> ends = false;
    std::vector<std::thread> busy;
    for (unsigned i = 0; i <= std::thread::hardware_concurrency(); ++i) {
        busy.emplace_back([&] {
            while (!ends) {
            }
        });
    }
    const TemporaryFolder folder;
    const Outcome outcome = run_program({"env", "-u", "GOMP_SPINCOUNT", "-u", "OMP_WAIT_POLICY",
                                         loader, TRIREME_BINARY_DIR "/bin/trireme", "--version"},
                                        folder.path());
    ends = true;
    for (std::thread& thread : busy) thread.join();
    CHECK(outcome.code == 0);
    CHECK_THAT(outcome.out, Catch::Contains("trireme"));
}

TEST_CASE("a mistake in the configuration is told once by all processes together",
          "[app][launch]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/run.yaml", tiny_run(1));
    const Outcome outcome =
        trireme_in(folder.path(), {"train", "run.yaml", "--set", "run.steps=0"}, 4);
    CHECK(outcome.code == 78);
    const std::string text = "run.steps: found 0";
    const size_t first = outcome.error.find(text);
    REQUIRE(first != std::string::npos);
    CHECK(outcome.error.find(text, first + 1) == std::string::npos);
    CHECK(outcome.error.find("MPI_ABORT") == std::string::npos);
    CHECK(!std::filesystem::exists(folder.path() + "/out"));
}

// scripts/check-slurm runs them on a real Slurm; this is about what they do with each exit code.
TEST_CASE("the job files start a run again after the right exit codes", "[app][launch]") {
    const TemporaryFolder folder;
    write_text(folder.path() + "/bin/srun", "#!/bin/sh\nexit \"$CODE\"\n");
    write_text(folder.path() + "/bin/scontrol", "#!/bin/sh\necho \"$*\" >>requeued\n");
    REQUIRE(run_program({"chmod", "+x", "bin/srun", "bin/scontrol"}, folder.path()).code == 0);
    struct Case {
        int code;
        const char* too_soon;
        bool again;
    };
    const Case cases[] = {{0, "0", false},  {75, "100", true},   {78, "0", false},
                          {86, "0", true},  {86, "100", false},  {93, "0", false},
                          {137, "0", true}, {137, "100", false}, {76, "0", false}};
    for (const char* name : {"requeue", "multi-node", "container"}) {
        for (const Case& one : cases) {
            INFO(name << " with code " << one.code << " and TOO_SOON " << one.too_soon);
            std::filesystem::remove(folder.path() + "/requeued");
            const Outcome outcome = run_program(
                {"env", "PATH=" + folder.path() + "/bin:/usr/bin:/bin",
                 "CODE=" + std::to_string(one.code), std::string("TOO_SOON=") + one.too_soon,
                 "SLURM_JOB_ID=17", "IMAGE=image.sqsh", "bash",
                 TRIREME_SOURCE_DIR "/scripts/slurm/" + std::string(name) + ".sbatch", "run.yaml"},
                folder.path());
            CHECK(outcome.code == one.code);
            CHECK(outcome.error == "");
            CHECK(read_text(folder.path() + "/requeued") == (one.again ? "requeue 17\n" : ""));
        }
    }
}

}  // namespace trireme::test
