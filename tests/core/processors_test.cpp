#include "core/processors.h"

#include <catch2/catch.hpp>

namespace trireme {

TEST_CASE("threads per rank are the processors divided by the local ranks", "[core][processors]") {
    CHECK(cpu_threads_per_rank(0, 8, 2) == 4);
    CHECK(cpu_threads_per_rank(0, 7, 2) == 3);
    CHECK(cpu_threads_per_rank(0, 2, 8) == 1);
    CHECK(cpu_threads_per_rank(0, 2, 0) == 2);
    CHECK(cpu_threads_per_rank(5, 2, 8) == 5);
    CHECK(available_processors() >= 1);
}

TEST_CASE("ranks with more threads than processors share their speed", "[core][processors]") {
    CHECK(cpu_share(2, 2, 1, 2) == 1.0);
    CHECK(cpu_share(1, 2, 2, 2) == 1.0);
    CHECK(cpu_share(1, 2, 8, 2) == 0.25);
    CHECK(cpu_share(4, 8, 8, 8) == 0.25);
    CHECK(cpu_share(1, 1, 8, 8) == 1.0);  // each bound to a core of its own
    const double own = cpu_share_of_rank(0, 1);  // less where a quota is no whole number
    CHECK((own > 0.0 && own <= 1.0));
}

}  // namespace trireme
