#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>

#include "core/error.h"
#include "parallel/rank_order_reduce.h"
#include "parallel/self_communicator.h"
#include "parallel/thread/thread_world.h"
#include "tests/core/error_of.h"
#include "tests/parallel/communicator_cases.h"

using namespace trireme;

namespace {

Tensor f32(std::vector<float>& data) {
    return {data.data(), DType::f32, {static_cast<int64_t>(data.size())}};
}

Error error_of(int ranks, const std::function<void(World&)>& body,
               std::chrono::milliseconds timeout = std::chrono::minutes(1)) {
    return test::error_of([&] { run_thread_ranks(ranks, body, timeout); });
}

// Of a wait that does not end. On a busy machine ranks may come too late for a short limit, so that
// something else hangs first; then there is a long one.
Error hang_of(int ranks, const std::function<void(World&)>& body, const std::string& expected) {
    const Error error = error_of(ranks, body, std::chrono::milliseconds(300));
    if (std::string(error.what()).find(expected) != std::string::npos) return error;
    return error_of(ranks, body, std::chrono::seconds(5));
}

void check_operations_on(int ranks) {
    for (const auto& one : testing::communicator_cases()) {
        INFO(ranks << " ranks: " << one.name);
        REQUIRE_NOTHROW(run_thread_ranks(ranks, one.run));
    }
}

}  // namespace

TEST_CASE("every operation gives the same bits on every rank as threads", "[parallel][comm]") {
    for (const int ranks : {1, 2, 3, 4}) check_operations_on(ranks);
}

TEST_CASE("every operation gives the same bits on every one of eight ranks as threads",
          "[parallel][comm][long]") {
    check_operations_on(8);
}

TEST_CASE("a world of one process does every operation that needs no other rank",
          "[parallel][comm]") {
    for (const auto& one : testing::communicator_cases()) {
        SelfWorld world;
        INFO(one.name);
        REQUIRE_NOTHROW(one.run(world));
    }
}

TEST_CASE("one rank's exception ends the waits of all", "[parallel][comm]") {
    std::atomic<int> failed_waits = 0;
    const Error error = error_of(4, [&](World& world) {
        const auto group = world.split(0, 0, "all");
        if (world.rank() == 2) throw Error(ExitCode::bad_data, "token 300 of 257");
        CpuStream stream;
        std::vector<float> buffer(7), incoming(3);
        if (world.rank() == 3) stream.wait(group->recv(stream, f32(incoming), 2, "never"));
        try {
            stream.wait(group->all_reduce(stream, f32(buffer), ReduceOp::sum, "sum"));
        } catch (const Error& other) {
            if (std::string(other.what()).find("rank 2 failed: token 300") != std::string::npos &&
                other.code() == ExitCode::bad_data) {
                ++failed_waits;
            }
            throw;
        }
    });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(std::string(error.what()) == "token 300 of 257");
    CHECK(failed_waits == 2);
}

TEST_CASE("one rank's exception ends a split", "[parallel][comm]") {
    const Error error = error_of(3, [](World& world) {
        if (world.rank() == 1) throw Error(ExitCode::io, "disk full");
        world.split(0, 0, "all");
    });
    CHECK(std::string(error.what()) == "disk full");
}

TEST_CASE("abort on one rank gives its code to the run", "[parallel][comm]") {
    const Error error = error_of(3, [](World& world) {
        const auto group = world.split(0, 0, "all");
        if (world.rank() == 1) world.abort(76);
        group->barrier();
    });
    CHECK(error.code() == ExitCode::numerics);
}

TEST_CASE("collectives that differ between members are refused with both named",
          "[parallel][comm]") {
    const auto text_of = [](const std::function<void(Communicator&, Stream&)>& issue) {
        const Error error = error_of(2, [&](World& world) {
            const auto group = world.split(0, 0, "data");
            CpuStream stream;
            issue(*group, stream);
        });
        CHECK(error.code() == ExitCode::internal);
        return std::string(error.what());
    };
    using Catch::Contains;
    CHECK_THAT(text_of([](Communicator& group, Stream& stream) {
                   std::vector<float> buffer(group.rank() == 0 ? 5u : 6u);
                   stream.wait(group.all_reduce(stream, f32(buffer), ReduceOp::sum, "norm"));
               }),
               Contains("'data'") && Contains("rank 0 issued all_reduce sum of 5 F32 'norm'") &&
                   Contains("rank 1 issued all_reduce sum of 6 F32 'norm'"));
    CHECK_THAT(text_of([](Communicator& group, Stream& stream) {
                   std::vector<float> buffer(5);
                   const bool first = group.rank() == 0;
                   stream.wait(group.all_reduce(stream, f32(buffer),
                                                first ? ReduceOp::sum : ReduceOp::max, "norm"));
               }),
               Contains("all_reduce max of 5"));
    CHECK_THAT(text_of([](Communicator& group, Stream& stream) {
                   std::vector<float> buffer(5);
                   stream.wait(group.all_reduce(stream, f32(buffer), ReduceOp::sum,
                                                group.rank() == 0 ? "loss" : "norm"));
               }),
               Contains("'loss'") && Contains("'norm'"));
    CHECK_THAT(text_of([](Communicator& group, Stream& stream) {
                   std::vector<float> buffer(4);
                   if (group.rank() == 0)
                       stream.wait(group.broadcast(stream, f32(buffer), 0, "b"));
                   else
                       group.barrier();
               }),
               Contains("issued broadcast") && Contains("issued barrier"));
    CHECK_THAT(text_of([](Communicator& group, Stream& stream) {
                   std::vector<float> from(4), to(4), shard(2);
                   stream.wait(group.rank() == 0
                                   ? group.all_to_all(stream, f32(from), f32(to), "heads")
                                   : group.all_gather(stream, f32(shard), f32(to), "heads"));
               }),
               Contains("rank 0 issued all_to_all of 2 F32 'heads'") &&
                   Contains("rank 1 issued all_gather of 2 F32 'heads'"));
    CHECK_THAT(text_of([](Communicator& group, Stream& stream) {
                   std::vector<float> from(group.rank() == 0 ? 4u : 6u), to(from.size());
                   stream.wait(group.all_to_all(stream, f32(from), f32(to), "heads"));
               }),
               Contains("all_to_all of 2 F32") && Contains("all_to_all of 3 F32"));
    CHECK_THAT(text_of([](Communicator& group, Stream& stream) {
                   std::vector<float> buffer(group.rank() == 0 ? 5u : 6u);
                   stream.wait(group.rank() == 0 ? group.send(stream, f32(buffer), 1, "out")
                                                 : group.recv(stream, f32(buffer), 0, "in"));
               }),
               Contains("issued send of 5 F32 'out'") && Contains("issued recv of 6 F32 'in'"));
}

TEST_CASE("a wait that lasts too long names group, operation and missing ranks",
          "[parallel][comm]") {
    const Error collective = hang_of(
        3,
        [](World& world) {
            const auto group = world.split(0, 0, "tensor");
            CpuStream stream;
            std::vector<float> buffer(3);
            group->barrier();
            if (world.rank() != 1) {
                stream.wait(group->all_reduce(stream, f32(buffer), ReduceOp::sum, "output"));
            }
        },
        "not arrived: rank 1");
    CHECK(collective.code() == ExitCode::hang);
    CHECK_THAT(collective.what(), Catch::Contains("collective 2 'output'") &&
                                      Catch::Contains("group 'tensor' (ranks 0, 1, 2)") &&
                                      Catch::Contains("not arrived: rank 1"));
    const Error receive = hang_of(
        2,
        [](World& world) {
            const auto group = world.split(0, 0, "pipeline");
            CpuStream stream;
            std::vector<float> buffer(3);
            if (world.rank() == 0) stream.wait(group->recv(stream, f32(buffer), 1, "gradient"));
        },
        "receive 1");
    CHECK(receive.code() == ExitCode::hang);
    CHECK_THAT(receive.what(), Catch::Contains("receive 1 'gradient'"));
    const Error split = hang_of(
        2,
        [](World& world) {
            if (world.rank() == 0) world.split(0, 0, "late");
        },
        "'late'");
    CHECK(split.code() == ExitCode::hang);
    CHECK_THAT(split.what(), Catch::Contains("'late'"));
}

TEST_CASE("the largest carries a NaN and does not depend on the order of ranks",
          "[parallel][comm]") {
    const float nan = std::nanf("");
    const std::vector<float> a = {nan, 1, -0.0f, 0.0f, -INFINITY, 2};
    const std::vector<float> b = {1, nan, 0.0f, -0.0f, -5, INFINITY};
    std::vector<float> ab(a.size()), ba(a.size());
    const void* in_order[] = {a.data(), b.data()};
    const void* reversed[] = {b.data(), a.data()};
    reduce_in_rank_order(in_order, 2, 6, DType::f32, ReduceOp::max, ab.data());
    reduce_in_rank_order(reversed, 2, 6, DType::f32, ReduceOp::max, ba.data());
    CHECK((std::isnan(ab[0]) && std::isnan(ab[1]) && std::isnan(ba[0]) && std::isnan(ba[1])));
    for (size_t i = 2; i < a.size(); ++i) {
        CHECK(ab[i] == ba[i]);
        CHECK(std::signbit(ab[i]) == std::signbit(ba[i]));
    }
    CHECK(ab[4] == -5);
    CHECK(ab[5] == INFINITY);
}

TEST_CASE("arguments that no group can carry are refused", "[parallel][comm]") {
    run_thread_ranks(2, [](World& world) {
        const auto group = world.split(0, 0, "all");
        CpuStream stream;
        std::vector<float> five(5), eleven(11);
        const auto refused = [&](auto&& call) {
            try {
                call();
            } catch (const InternalError&) {
                return;
            }
            throw std::runtime_error("expected an InternalError");
        };
        refused([&] { group->all_gather(stream, f32(five), f32(eleven), "sizes"); });
        refused([&] { group->reduce_scatter(stream, f32(eleven), f32(five), "sizes"); });
        std::vector<float> also_five(5), ten(10), also_ten(10), twelve(12);
        refused([&] { group->all_to_all(stream, f32(five), f32(also_five), "odd"); });
        refused([&] { group->all_to_all(stream, f32(ten), f32(twelve), "sizes"); });
        refused([&] { group->all_to_all(stream, f32(ten), f32(ten), "itself"); });
        const Tensor whole_numbers(also_ten.data(), DType::i32, {10});
        refused([&] { group->all_to_all(stream, f32(ten), whole_numbers, "types"); });
        const Tensor no_memory(nullptr, DType::f32, {10});
        refused([&] { group->all_to_all(stream, f32(ten), no_memory, "memory"); });
        SelfCommunicator alone("alone");
        refused([&] { alone.all_to_all(stream, f32(ten), f32(ten), "itself"); });
        refused([&] { alone.all_to_all(stream, f32(ten), f32(twelve), "sizes"); });
        refused([&] { group->broadcast(stream, f32(five), 2, "root"); });
        refused([&] { group->send(stream, f32(five), world.rank(), "to itself"); });
        refused([&] { group->recv(stream, f32(five), -1, "peer"); });
        const Tensor bytes(five.data(), DType::u8, {5});
        refused([&] { group->all_reduce(stream, bytes, ReduceOp::sum, "type"); });
        const Tensor measured(nullptr, DType::f32, {5});
        refused([&] { group->all_reduce(stream, measured, ReduceOp::sum, "memory"); });
        group->barrier();
    });
}
