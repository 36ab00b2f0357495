#include <catch2/catch.hpp>

#include "tests/app/process_support.h"
#include "tests/app/tiny_run.h"
#include "tests/core/temporary_folder.h"

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

}  // namespace trireme::test
