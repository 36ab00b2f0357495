#include <catch2/catch.hpp>

#include <chrono>
#include <thread>

#include "parallel/thread/thread_world.h"
#include "tests/parallel/communicator_cases.h"
#include "tests/parallel/schedule_run.h"

// Schedules must not count on a send that leaves before it is received. Ranks as threads never do
// that; parallel_mpi_tests runs the same over MPI with synchronous sends.

namespace trireme::testing {

TEST_CASE("a send between threads waits for its receiver", "[parallel][rendezvous]") {
    run_thread_ranks(2, [](World& world) {
        const auto group = world.split(0, 0, "pair");
        CpuStream stream;
        float value = static_cast<float>(world.rank());
        const Tensor buffer(&value, DType::f32, {1});
        if (world.rank() == 0) {
            const Event sent = group->send(stream, buffer, 1, "value");
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            if (sent.source->done(sent.ticket)) throw InternalError("sent before it was asked for");
            group->barrier();
            stream.wait(sent);
        } else {
            group->barrier();
            stream.wait(group->recv(stream, buffer, 0, "value"));
            if (value != 0.0f) throw InternalError("another value than was sent");
        }
    });
}

TEST_CASE("every named schedule runs with sends that wait for their receivers",
          "[parallel][rendezvous]") {
    for (int stages = 1; stages <= 4; ++stages) {
        CAPTURE(stages);
        REQUIRE_NOTHROW(run_thread_ranks(stages, run_all_programs, std::chrono::seconds(60)));
    }
}

}  // namespace trireme::testing
