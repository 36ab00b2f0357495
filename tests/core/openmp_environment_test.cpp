#include "core/cpu/openmp_environment.h"

#include <catch2/catch.hpp>
#include <string>

namespace trireme::test {

TEST_CASE("processors are busy when as many others want to run", "[core]") {
    const std::string before = "cpu  1 2 3\nctxt 7\nprocesses 99\n";
    CHECK_FALSE(are_processors_busy(before + "procs_running 1\nprocs_blocked 5\n", 2));
    CHECK_FALSE(are_processors_busy(before + "procs_running 2\nprocs_blocked 5\n", 2));
    CHECK(are_processors_busy(before + "procs_running 3\nprocs_blocked 0\n", 2));
    CHECK(are_processors_busy(before + "procs_running 120\n", 64));
    CHECK_FALSE(are_processors_busy(before, 2));
    CHECK_FALSE(are_processors_busy("", 1));
}

}  // namespace trireme::test
