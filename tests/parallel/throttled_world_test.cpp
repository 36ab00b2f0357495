#include "parallel/throttled_world.h"

#include <sys/resource.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>
#include <vector>

#include "core/error.h"
#include "parallel/forwarding_world.h"
#include "tests/core/expect.h"
#include "tests/parallel/communicator_cases.h"

namespace trireme::testing {

using test::expect;

namespace {

using Clock = std::chrono::steady_clock;

void expect_at_least(double milliseconds, double least, const std::string& what) {
    expect(milliseconds >= least, what + " took " + std::to_string(milliseconds) +
                                      " ms, expected at least " + std::to_string(least));
}

double milliseconds_since(Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double cpu_milliseconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& time) {
        return 1e3 * static_cast<double>(time.tv_sec) + 1e-3 * static_cast<double>(time.tv_usec);
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

// Every group behind the same link, whatever its name.
class SlowWorld final : public ForwardingWorld {
public:
    SlowWorld(World& world, const LinkOptions& link) : ForwardingWorld(world), link_(link) {}
    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse use) override {
        auto group = ForwardingWorld::split(color, key, name, use);
        return group ? make_throttled_communicator(std::move(group), link_) : nullptr;
    }

private:
    const LinkOptions link_;
};

constexpr int64_t kFloats = 50'000;                  // 200 kB, 20 ms on this link:
const LinkOptions kLink{MeshAxis::data, 5.0, 10.0};  // 5 ms, 10 MB/s
constexpr double kTransferMs = 25.0;

struct Rank {
    explicit Rank(World& world)
        : slow(make_throttled_world(world, {kLink})),
          all(world.split(0, 0, "all")),
          group(slow->split(0, 0, "data")),
          whole(static_cast<size_t>(kFloats), 1.0f),
          other(whole) {}

    static Tensor tensor(std::vector<float>& data, int64_t count = kFloats) {
        return {data.data(), DType::f32, {count}};
    }

    CpuStream stream;
    std::unique_ptr<World> slow;
    std::unique_ptr<Communicator> all, group;
    std::vector<float> whole, other;
};

}  // namespace

TEST_CASE("a throttled group does all that another does", "[parallel][link]") {
    for (const CommunicatorCase& one : communicator_cases()) {
        CAPTURE(one.name);
        for (int ranks = 2; ranks <= 3; ++ranks) {
            REQUIRE_NOTHROW(run_thread_ranks(ranks, [&](World& world) {
                SlowWorld slow(world, {MeshAxis::data, 0.02, 2000.0});
                one.run(slow);
            }));
        }
    }
}

TEST_CASE("operations of a queue follow one another on a link", "[parallel][link]") {
    REQUIRE_NOTHROW(run_thread_ranks(2, [](World& world) {
        Rank rank(world);
        // Before the barrier: a peer may leave it earlier and begin at once.
        const auto begin = Clock::now();
        rank.all->barrier();
        const int peer = 1 - world.rank();
        std::vector<Event> sends, receives;
        for (int i = 0; i < 3; ++i) {
            sends.push_back(rank.group->send(rank.stream, Rank::tensor(rank.whole), peer, "there"));
            receives.push_back(
                rank.group->recv(rank.stream, Rank::tensor(rank.other), peer, "back"));
        }
        for (int i = 0; i < 3; ++i) {
            rank.stream.wait(receives[static_cast<size_t>(i)]);
            expect_at_least(milliseconds_since(begin), (i + 1) * kTransferMs, "a receive");
        }
        rank.stream.wait(sends[2]);
        expect_at_least(milliseconds_since(begin), 3 * kTransferMs, "three sends");
    }));
}

TEST_CASE("a collective takes as long as its bytes in a ring", "[parallel][link]") {
    REQUIRE_NOTHROW(run_thread_ranks(4, [](World& world) {
        Rank rank(world);
        const auto timed = [&](const char* what, double least, const auto& issue) {
            // Before the barrier: a peer may leave it earlier and begin at once.
            const auto begin = Clock::now();
            rank.all->barrier();
            rank.stream.wait(issue());
            expect_at_least(milliseconds_since(begin), least, what);
        };
        const Tensor whole = Rank::tensor(rank.whole);
        const Tensor part = Rank::tensor(rank.other, kFloats / 4);
        timed("all_reduce", 5 + 1.5 * 20,
              [&] { return rank.group->all_reduce(rank.stream, whole, ReduceOp::sum, "sum"); });
        timed("all_gather", 5 + 0.75 * 20,
              [&] { return rank.group->all_gather(rank.stream, part, whole, "gather"); });
        timed("reduce_scatter", 5 + 0.75 * 20,
              [&] { return rank.group->reduce_scatter(rank.stream, whole, part, "scatter"); });
        const Tensor other = Rank::tensor(rank.other);
        timed("all_to_all", 5 + 0.75 * 20,
              [&] { return rank.group->all_to_all(rank.stream, whole, other, "transpose"); });
        timed("broadcast", 5 + 20,
              [&] { return rank.group->broadcast(rank.stream, whole, 2, "broadcast"); });
    }));
}

TEST_CASE("a collective starts with its last member", "[parallel][link]") {
    REQUIRE_NOTHROW(run_thread_ranks(3, [](World& world) {
        Rank rank(world);
        // Before the barrier: a peer may leave it earlier and begin at once.
        const auto begin = Clock::now();
        rank.all->barrier();
        if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(40));
        rank.stream.wait(
            rank.group->broadcast(rank.stream, Rank::tensor(rank.whole), 0, "broadcast"));
        expect_at_least(milliseconds_since(begin), 40 + kTransferMs, "a broadcast");
    }));
}

namespace {

// A fast group beside one with a link that holds each operation for so long. Whether the fast one's
// operations ended before.
bool is_fast_beside_slow_link(double latency_ms) {
    std::atomic<bool> is_fast = true;
    run_thread_ranks(2, [latency_ms, &is_fast](World& world) {
        const LinkOptions slow_link{MeshAxis::data, latency_ms, 0.0};
        const auto slow = make_throttled_world(world, {slow_link});
        const auto data = slow->split(0, 0, "data");
        const auto tensor = slow->split(0, 0, "tensor_kv");
        CpuStream stream;
        float value = 1.0f, sent = 2.0f, received = 0.0f;
        const auto one = [](float& at) { return Tensor(&at, DType::f32, {1}); };
        // Before the ranks meet: a peer may begin at once when they have.
        const auto begin = Clock::now();
        stream.wait(tensor->all_reduce(stream, one(value), ReduceOp::sum, "meeting"));
        const Event late = world.rank() == 0 ? data->send(stream, one(sent), 1, "late")
                                             : data->recv(stream, one(received), 0, "late");
        for (int i = 0; i < 10; ++i) {
            stream.wait(tensor->all_reduce(stream, one(value), ReduceOp::sum, "fast"));
        }
        expect(value == 2048.0f, "the sum");
        const bool is_under_way = !late.source->done(late.ticket);
        if (!is_under_way || milliseconds_since(begin) >= latency_ms) is_fast = false;
        stream.wait(late);
        expect_at_least(milliseconds_since(begin), latency_ms, "the slow send");
        expect(world.rank() == 0 || received == 2.0f, "what was sent");
    });
    return is_fast;
}

}  // namespace

TEST_CASE("only groups of the named axis are slower, and queues do not wait for each other",
          "[parallel][link]") {
    // On a busy machine the fast group may need more than the shorter time.
    CHECK((is_fast_beside_slow_link(500.0) || is_fast_beside_slow_link(8000.0)));
}

TEST_CASE("a link sleeps while it holds an operation", "[parallel][link]") {
    const double before = cpu_milliseconds();
    REQUIRE_NOTHROW(run_thread_ranks(2, [](World& world) {
        SlowWorld slow(world, {MeshAxis::data, 400.0, 0.0});
        const auto group = slow.split(0, 0, "data", GroupUse::collectives);
        CpuStream stream;
        float value = 1.0f;
        stream.wait(group->all_reduce(stream, Tensor(&value, DType::f32, {1}), ReduceOp::sum, "x"));
    }));
    CHECK(cpu_milliseconds() - before < 200.0);
}

TEST_CASE("a rank that fails ends the others' held operations", "[parallel][link]") {
    const auto body = [](World& world) {
        SlowWorld slow(world, {MeshAxis::data, 50.0, 0.0});
        const auto group = slow.split(0, 0, "data", GroupUse::collectives);
        if (world.rank() == 1) throw Error(ExitCode::bad_data, "token 300 of 257");
        CpuStream stream;
        float value = 1.0f;
        stream.wait(group->all_reduce(stream, Tensor(&value, DType::f32, {1}), ReduceOp::sum, "x"));
    };
    REQUIRE_THROWS_WITH(run_thread_ranks(2, body), Catch::Matchers::Contains("token 300"));
}

}  // namespace trireme::testing
