#include "parallel/event_queue.h"

#include <catch2/catch.hpp>
#include <thread>

using namespace trireme;

TEST_CASE("a finished ticket is done although one before it is not", "[parallel]") {
    EventQueue queue(std::chrono::milliseconds(60000), [](uint64_t, const char*) {});
    for (int i = 0; i < 4; ++i) queue.issue("message");
    queue.finish(3);
    REQUIRE(queue.done(3));
    queue.host_wait(3);
    REQUIRE_FALSE(queue.done(1));
    REQUIRE_FALSE(queue.done(2));
    std::thread carrier([&] {
        queue.finish(4);
        queue.finish(2);
    });
    queue.host_wait(2);
    carrier.join();
    REQUIRE(queue.done(4));
    REQUIRE_FALSE(queue.done(1));

    queue.fail(Error(ExitCode::hang, "gone"));
    queue.host_wait(4);
    REQUIRE(queue.done(2));
    REQUIRE_THROWS_WITH(queue.host_wait(1), "gone");
    REQUIRE_THROWS_WITH(queue.done(1), "gone");
}
