#include "parallel/watchdog.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <mutex>
#include <optional>
#include <thread>

#include "core/cpu/cpu_device.h"
#include "parallel/thread/thread_world.h"

// Ranks as threads, each with its watchdog: connections, questions and verdicts are those of
// processes. tests/faults does the same to processes that are stopped or killed.

namespace trireme {

namespace {

using Catch::Contains;
using std::chrono::milliseconds;

// What the watchdogs of a run did instead of ending processes.
struct Alarms {
    std::mutex mutex;
    std::vector<std::string> messages, details;
    int ended = 0;

    WatchdogOptions options(double limit) {
        WatchdogOptions options;
        options.limit_seconds = limit;
        options.beat = milliseconds(50);
        options.report = [this](const std::string& message, const std::string& detail) {
            const std::lock_guard lock(mutex);
            messages.push_back(message);
            details.push_back(detail);
        };
        options.end = [this](ExitCode code) {
            const std::lock_guard lock(mutex);
            if (code == ExitCode::hang) ++ended;
        };
        return options;
    }
    int n_ended() {
        const std::lock_guard lock(mutex);
        return ended;
    }
    // False when the ranks were not ended in time.
    bool wait_for(int ranks) {
        for (int i = 0; i < 1000 && n_ended() < ranks; ++i) {
            std::this_thread::sleep_for(milliseconds(10));
        }
        return n_ended() == ranks;
    }
};

void sum(Communicator& group, const char* label) {
    CpuStream stream;
    float value = 1.0f;
    stream.wait(group.all_reduce(stream, Tensor(&value, DType::f32, {1}), ReduceOp::sum, label));
}

// One of three ranks stands still, until all are ended. False when they were not in time.
bool stand(int sleeper, double limit, Alarms& alarms) {
    bool in_time = false;
    run_thread_ranks(3, [&](World& world) {
        Watchdog watchdog(world, alarms.options(limit));
        const auto group = world.split(0, 0, "data");
        for (int step = 1; step <= 3; ++step) {
            watchdog.enter(Phase::step, step);
            sum(*group, "gradients");
        }
        if (world.rank() == sleeper) {
            world.activity().act("optimizer", 5);
            in_time = alarms.wait_for(3);
        }
        sum(*group, "loss and norm");
    });
    return in_time;
}

void check_stands(int sleeper) {
    INFO("rank " << sleeper);
    const std::string named = "the run stands still: rank " + std::to_string(sleeper) + " on ";
    std::optional<Alarms> alarms;
    bool is_in_time = false;
    // On a busy machine another rank may stand for the shorter limit.
    for (const double limit : {0.4, 4.0}) {
        is_in_time = stand(sleeper, limit, alarms.emplace());
        if (is_in_time && alarms->messages.size() == 1 &&
            (Contains(named) && Contains("'optimizer 5'")).match(alarms->messages[0])) {
            break;
        }
    }
    CHECK(is_in_time);
    REQUIRE(alarms->messages.size() == 1);
    CHECK_THAT(alarms->messages[0],
               Contains(named) && Contains("step 3, 'optimizer 5'") &&
                   Contains("collective 4 (all_reduce sum of 1 F32 'loss and norm') of group "
                            "'data' (ranks 0, 1, 2)"));
    CHECK_THAT(alarms->details[0], Contains("'gradients'") && Contains("done"));
}

}  // namespace

TEST_CASE("a rank that stands is named by the watchdog and all are ended", "[parallel][watchdog]") {
    check_stands(1);
}

TEST_CASE("the first and the last rank that stands is named by the watchdog",
          "[parallel][watchdog][long]") {
    check_stands(0);
    check_stands(2);
}

TEST_CASE("a rank that works for longer than the limit but gets on raises no alarm",
          "[parallel][watchdog][long]") {
    Alarms alarms;
    run_thread_ranks(2, [&](World& world) {
        Watchdog watchdog(world, alarms.options(1.2));
        const auto group = world.split(0, 0, "data");
        watchdog.enter(Phase::save, 3);
        for (int i = 0; i < 45 && world.rank() == 1; ++i) {
            world.activity().act("writing", i);
            std::this_thread::sleep_for(milliseconds(40));
        }
        group->barrier();
    });
    CHECK(alarms.messages.empty());
    CHECK(alarms.ended == 0);
}

TEST_CASE("a rank that has taken leave is not missed", "[parallel][watchdog][long]") {
    Alarms alarms;
    run_thread_ranks(3, [&](World& world) {
        Watchdog watchdog(world, alarms.options(1.0));
        watchdog.enter(Phase::step, 1);
        if (world.rank() == 1) return;
        for (int i = 0; i < 40; ++i) {
            world.activity().act("step");
            std::this_thread::sleep_for(milliseconds(40));
        }
    });
    CHECK(alarms.messages.empty());
}

TEST_CASE("a single rank is watched too", "[parallel][watchdog]") {
    Alarms alarms;
    run_thread_ranks(1, [&](World& world) {
        Watchdog watchdog(world, alarms.options(0.3));
        watchdog.enter(Phase::evaluation, 4);
        world.activity().act("loading data");
        CHECK(alarms.wait_for(1));
    });
    REQUIRE(alarms.messages.size() == 1);
    CHECK_THAT(alarms.messages[0], Contains("step 4, evaluation, 'loading data'"));
}

TEST_CASE("the limit is learned from the longest part of the run", "[parallel][watchdog]") {
    Alarms alarms;
    run_thread_ranks(1, [&](World& world) {
        Watchdog watchdog(world, alarms.options(0));
        CHECK(watchdog.limit_seconds() == 1800);
        watchdog.enter(Phase::step, 1);
        CHECK(watchdog.limit_seconds() == 600);  // the first step may be slow
        watchdog.enter(Phase::step, 2);
        CHECK(watchdog.limit_seconds() == 60);
        watchdog.enter(Phase::save, 2);
        CHECK(watchdog.limit_seconds() == 600);
    });
}

TEST_CASE("the board keeps the last 64 operations and what is waited for", "[parallel]") {
    ActivityBoard board;
    ActivityGroup* group = board.add_group("data", {2, 5});
    CHECK(group->key == "data/2,5");
    CHECK(board.add_group("data", {2, 5})->key == "data~1/2,5");
    board.set_main_thread();
    for (uint64_t ticket = 1; ticket <= 100; ++ticket) {
        Operation operation{.kind = OperationKind::all_reduce,
                            .dtype = DType::f32,
                            .elements = 3,
                            .label = "x",
                            .ticket = ticket};
        operation.record = board.issue(*group, operation);
        if (ticket <= 98) board.done(*group, operation);
    }
    const ActivityBoard::Wait wait(&board, group, OperationKind::barrier, 99);
    const RankReport report = board.report();
    REQUIRE(report.operations.size() == ActivityBoard::kOperations);
    CHECK(report.operations.front().ticket == 37);
    CHECK(report.operations.back().ticket == 100);
    CHECK(report.operation("data/2,5", Queue::collective, 98)->is_done);
    CHECK_FALSE(report.operation("data/2,5", Queue::collective, 99)->is_done);
    CHECK(report.group("data/2,5")->issued == 100);
    CHECK(report.group("data/2,5")->done == 98);
    REQUIRE(report.waits.size() == 1);
    CHECK(report.waits[0].ticket == 99);
    CHECK(report.waits[0].is_main);
}

}  // namespace trireme
