#include "app/rank_agreement.h"

#include <catch2/catch.hpp>

#include "parallel/thread/thread_world.h"
#include "tests/app/tiny_run.h"

namespace trireme::test {

using Catch::Contains;

namespace {

// Two ranks with the same configuration but for what one of them sets.
void compare(const std::vector<std::string>& sets_of_rank_1) {
    run_thread_ranks(2, [&](World& world) {
        const std::vector<std::string> none;
        check_same_config(world, parse_config(tiny_run(4), "run.yaml",
                                              world.rank() == 1 ? sets_of_rank_1 : none));
    });
}

}  // namespace

TEST_CASE("ranks that read different configurations do not train together", "[app][config]") {
    CHECK_NOTHROW(compare({}));
    CHECK_THROWS_WITH(
        compare({"optimizer.lr=0.1"}),
        Contains("optimizer.lr: found 0.1 on rank 1, expected") && Contains("as on rank 0"));
    // What changes no result between runs may still not differ among ranks.
    CHECK_THROWS_WITH(compare({"checkpoint.interval=3"}), Contains("checkpoint.interval: found 3"));
    CHECK_NOTHROW(compare({"device.threads=2"}));
}

}  // namespace trireme::test
