#include "parallel/timed_network.h"

#include <catch2/catch.hpp>
#include <functional>
#include <thread>

#include "core/error.h"
#include "core/timed_stream.h"

namespace trireme::test {

namespace {

constexpr ClusterLinks kLinks{.devices_per_node = 4,
                              .node = {.bytes_per_second = 1024.0, .latency_seconds = 0.25},
                              .network = {.bytes_per_second = 128.0, .latency_seconds = 2.0}};

Tensor of_bytes(int64_t bytes) {
    return {nullptr, DType::u8, {bytes}};
}

using Instants = std::vector<double>;

// Plays ranks of a world, each on a thread, and returns what they note, in the order of `played`.
std::vector<Instants> play(const std::vector<int>& played, int ranks,
                           const std::function<std::unique_ptr<Communicator>(World&)>& split,
                           const std::function<Instants(Communicator&, TimedStream&)>& body) {
    const PlannedRanks planned(ranks, split);
    TimedNetwork network(kLinks, played);
    std::vector<Instants> noted(played.size());
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < played.size(); ++i) {
        threads.emplace_back([&, i] {
            const auto world = planned.world_of(played[i], [&](const PlannedRanks::Group& group) {
                return network.make_group(group);
            });
            TimedStream stream(1024.0);
            noted[i] = body(*split(*world), stream);
        });
    }
    threads.clear();
    return noted;
}

std::unique_ptr<Communicator> all_of(World& world) {
    return world.split(0, world.rank(), "data");
}

}  // namespace

TEST_CASE("a group in one machine has its links, others share what crosses the network",
          "[parallel][timed]") {
    const auto around = [](std::vector<int> members) { return kLinks.around(members); };
    CHECK(around({0, 1, 2, 3}).bytes_per_second == 1024.0);
    CHECK(around({4, 7}).latency_seconds == 0.25);
    CHECK(around({3, 4}).bytes_per_second == 128.0);
    CHECK(around({0, 4, 8}).latency_seconds == 2.0);
    // Two members a machine bring two shares of its network, not more than its links carry.
    CHECK(around({0, 1, 4, 5}).bytes_per_second == 256.0);
    CHECK(around({0, 1, 2, 4, 5}).bytes_per_second == 256.0);
    const ClusterLinks wide{.devices_per_node = 4, .node = {200.0, 0.0}, .network = {128.0, 0.0}};
    CHECK(wide.around(std::vector<int>{0, 1, 4, 5}).bytes_per_second == 200.0);
    // To all others at once each sends over its own share alone, while its links carry the rest.
    const auto among = [](std::vector<int> members) { return kLinks.among(members); };
    CHECK(among({0, 1, 2, 3}).bytes_per_second == 1024.0);
    CHECK(among({4, 7}).latency_seconds == 0.25);
    CHECK(among({0, 4, 8}).bytes_per_second == 128.0);
    CHECK(among({0, 1, 4, 5}).bytes_per_second == Approx(128.0 * 3 / 2));
    CHECK(among({0, 1, 2, 4}).bytes_per_second == 128.0);
    CHECK(among({0, 4}).latency_seconds == 2.0);
    const ClusterLinks slow{.devices_per_node = 4, .node = {32.0, 0.0}, .network = {128.0, 0.0}};
    CHECK(slow.among(std::vector<int>{0, 1, 2, 4, 5, 6}).bytes_per_second == Approx(32.0 * 5 / 2));
    CHECK(kLinks.between(3, 4).bytes_per_second == 128.0);
    CHECK(kLinks.between(5, 4).bytes_per_second == 1024.0);
}

TEST_CASE("a collective takes what a ring moves and a latency a step of a tree",
          "[parallel][timed]") {
    const LinkSpeed link{.bytes_per_second = 100.0, .latency_seconds = 1.0};
    CHECK(collective_seconds(Collective::all_reduce, 1, 1000.0, link) == 0.0);
    CHECK(collective_seconds(Collective::all_reduce, 4, 1000.0, link) == Approx(15.0 + 4.0));
    CHECK(collective_seconds(Collective::all_gather, 4, 1000.0, link) == Approx(7.5 + 2.0));
    CHECK(collective_seconds(Collective::reduce_scatter, 5, 1000.0, link) == Approx(8.0 + 3.0));
    CHECK(collective_seconds(Collective::all_to_all, 1, 1000.0, link) == 0.0);
    CHECK(collective_seconds(Collective::all_to_all, 4, 1000.0, link) == Approx(7.5 + 1.0));
    CHECK(collective_seconds(Collective::all_to_all, 5, 1000.0, link) == Approx(8.0 + 1.0));
    CHECK(collective_seconds(Collective::broadcast, 2, 1000.0, link) == Approx(10.0 + 1.0));
}

TEST_CASE("collectives of a group follow one another and begin when compute has come to them",
          "[parallel][timed]") {
    const auto noted = play({0}, 4, all_of, [](Communicator& group, TimedStream& stream) {
        WaitAccount account;
        group.put_waits_down_to(account);
        stream.work(1.0);
        const Event first = group.all_gather(stream, of_bytes(1024), of_bytes(4096), "first");
        const Event second = group.reduce_scatter(stream, of_bytes(4096), of_bytes(1024), "second");
        stream.work(2.0);
        stream.wait(first);
        const double after_first = stream.now();
        stream.wait(second);
        return Instants{after_first, stream.now(), account.seconds};
    });
    // 0.75 of the bytes at 1024 a second, and two steps.
    CHECK(noted == std::vector<Instants>{Instants{1.0 + 3.5, 1.0 + 2 * 3.5, 5.0}});
}

TEST_CASE("an exchange of all with all takes one latency and what its slowest link carries",
          "[parallel][timed]") {
    const auto exchange = [](Communicator& group, TimedStream& stream) {
        stream.wait(group.all_to_all(stream, of_bytes(4096), of_bytes(4096), "exchange"));
        return Instants{stream.now()};
    };
    // Three of four blocks at 1024 bytes a second.
    CHECK(play({0}, 4, all_of, exchange) == std::vector<Instants>{Instants{3.0 + 0.25}});
    // Four of eight blocks go to the other machine.
    CHECK(play({0, 5}, 8, all_of, exchange) ==
          std::vector<Instants>(2, Instants{2048.0 / 128.0 + 2.0}));
}

TEST_CASE("a transfer begins when sender and receiver have come to it", "[parallel][timed]") {
    const auto split = [](World& world) {
        return world.split(world.rank() % 4, world.rank(), "pipeline", GroupUse::neighbours);
    };
    // Ranks 1 and 5 are neighbours on two machines.
    const auto noted = play({1, 5}, 8, split, [](Communicator& group, TimedStream& stream) {
        if (group.rank() == 0) {
            stream.work(3.0);
            const Event one = group.send(stream, of_bytes(128), 1, "one");
            const Event two = group.send(stream, of_bytes(256), 1, "two");
            const Event back = group.recv(stream, of_bytes(128), 1, "back");
            stream.wait(one);
            const double after_one = stream.now();
            stream.wait(two);
            const double after_two = stream.now();
            stream.wait(back);
            return Instants{after_one, after_two, stream.now()};
        }
        const Event one = group.recv(stream, of_bytes(128), 0, "one");
        const Event two = group.recv(stream, of_bytes(256), 0, "two");
        stream.wait(one);
        const double after_one = stream.now();
        stream.wait(two);
        const double after_two = stream.now();
        stream.work(10.0);
        stream.wait(group.send(stream, of_bytes(128), 0, "back"));
        return Instants{after_one, after_two, stream.now()};
    });
    const Instants expected{3.0 + 2.0 + 1.0, 6.0 + 2.0 + 2.0, 20.0 + 2.0 + 1.0};
    CHECK(noted == std::vector<Instants>{expected, expected});
}

TEST_CASE("a collective of several played ranks begins when the last has come to it",
          "[parallel][timed]") {
    const auto noted = play({0, 4, 8}, 12, all_of, [](Communicator& group, TimedStream& stream) {
        stream.work(group.rank());
        stream.wait(group.all_reduce(stream, of_bytes(0), ReduceOp::sum, "norm"));
        return Instants{stream.now()};
    });
    // Twelve ranks: four steps, twice.
    CHECK(noted == std::vector<Instants>(3, Instants{8.0 + 8 * 2.0}));
}

TEST_CASE("groups of one cost nothing, but for a copy into a whole elsewhere",
          "[parallel][timed]") {
    const auto split = [](World& world) { return world.split(world.rank(), 0, "data"); };
    const auto noted = play({1}, 2, split, [](Communicator& group, TimedStream& stream) {
        stream.wait(group.all_reduce(stream, of_bytes(512), ReduceOp::sum, "nothing"));
        const double before = stream.now();
        char shard[8], whole[8];
        const Tensor from(shard, DType::u8, {512}), to(whole, DType::u8, {512});
        stream.wait(group.all_gather(stream, from, to, "copy"));
        return Instants{before, stream.now()};
    });
    CHECK(noted == std::vector<Instants>{Instants{0.0, 1.0}});
}

TEST_CASE("whoever waits for a rank that has failed is told", "[parallel][timed]") {
    const PlannedRanks planned(2, [](World& world) { world.split(0, world.rank(), "pipeline"); });
    TimedNetwork network(kLinks, {0, 1});
    const auto world = planned.world_of(
        0, [&](const PlannedRanks::Group& group) { return network.make_group(group); });
    const auto group = world->split(0, 0, "pipeline");
    TimedStream stream(1024.0);
    const Event early = group->recv(stream, of_bytes(8), 1, "activation");
    std::jthread closer([&] { network.close(); });
    CHECK_THROWS_AS(stream.wait(early), InternalError);
    CHECK_THROWS_AS(stream.wait(group->recv(stream, of_bytes(8), 1, "activation")), InternalError);
    CHECK_THROWS_AS(stream.wait(group->send(stream, of_bytes(8), 1, "activation")), InternalError);
}

}  // namespace trireme::test
