// Ranks as MPI processes: mpirun -n N parallel_mpi_tests CASE. Exits with 0, or with the code of
// the failure under test, which the caller expects.
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "parallel/mpi/mpi_world.h"
#include "parallel/watchdog.h"
#include "parallel/throttled_world.h"
#include "tests/core/expect.h"
#include "tests/parallel/communicator_cases.h"
#include "tests/parallel/schedule_run.h"

namespace trireme::testing {

using test::expect;

namespace {

using Clock = std::chrono::steady_clock;

Tensor f32(std::vector<float>& data) {
    return {data.data(), DType::f32, {static_cast<int64_t>(data.size())}};
}

// Longer than the memory in which a reduction collects the other ranks' parts.
void pieces_case(World& world) {
    CpuStream stream;
    const auto group = world.split(0, 0, "all");
    const int n = group->size();
    std::vector<float> buffer(3'000'001);
    std::iota(buffer.begin(), buffer.end(), static_cast<float>(group->rank()));
    stream.wait(group->all_reduce(stream, f32(buffer), ReduceOp::max, "pieces"));
    for (size_t i = 0; i < buffer.size(); ++i) {
        expect(buffer[i] == static_cast<float>(i) + static_cast<float>(n - 1), "a long maximum");
    }
    const int64_t part = 2'200'000 / (n - 1) + 1001;
    std::vector<float> whole(static_cast<size_t>(part * n), 1.0f);
    for (size_t i = 0; i < whole.size(); i += 1001) whole[i] = static_cast<float>(i % 97);
    std::vector<float> shard(static_cast<size_t>(part));
    const std::vector<float> before = whole;
    stream.wait(group->reduce_scatter(stream, f32(whole), f32(shard), "pieces"));
    for (size_t i = 0; i < shard.size(); ++i) {
        const float one = before[static_cast<size_t>(group->rank() * part) + i];
        expect(shard[i] == one * static_cast<float>(n), "a long sum");
    }
}

void run_cases(World& world) {
    for (const CommunicatorCase& one : communicator_cases()) {
        try {
            one.run(world);
        } catch (const std::exception& error) {
            throw std::runtime_error(one.name + ": " + error.what());
        }
    }
    if (world.size() > 1) pieces_case(world);
}

// The world of this case makes sends wait for their receivers; a small message shows that it does.
void run_rendezvous(World& world) {
    const auto group = world.split(0, 0, "pairs");
    CpuStream stream;
    float value = 1.0f;
    const Tensor buffer(&value, DType::f32, {1});
    if (world.rank() == 0) {
        const Event sent = group->send(stream, buffer, 1, "value");
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        expect(!sent.source->done(sent.ticket), "a send that waits for its receiver");
        group->barrier();
        stream.wait(sent);
    } else {
        group->barrier();
        if (world.rank() == 1) stream.wait(group->recv(stream, buffer, 0, "value"));
    }
    run_all_programs(world);
}

// A link of 10 MB/s and 5 ms: each of three transfers, and each collective, takes 25 ms.
void run_link(World& world) {
    const auto slow = make_throttled_world(world, {{MeshAxis::data, 5.0, 10.0}});
    const auto all = world.split(0, 0, "all");
    const auto group = slow->split(0, 0, "data");
    CpuStream stream;
    std::vector<float> from(50'000, 1.0f), to(from);
    const int n = world.size();
    // Before each barrier: a peer may leave it earlier and begin at once.
    const Clock::time_point begin = Clock::now();
    all->barrier();
    const auto milliseconds = [&] {
        return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
    };
    std::vector<Event> sends, receives;
    for (int i = 0; i < 3; ++i) {
        sends.push_back(group->send(stream, f32(from), (world.rank() + 1) % n, "ring"));
        receives.push_back(group->recv(stream, f32(to), (world.rank() + n - 1) % n, "ring"));
    }
    std::vector<float> sum(1, 1.0f);
    stream.wait(all->all_reduce(stream, f32(sum), ReduceOp::sum, "not on the link"));
    expect(sum[0] == static_cast<float>(n), "a sum beside the link");
    for (int i = 0; i < 3; ++i) {
        stream.wait(receives[static_cast<size_t>(i)]);
        expect(milliseconds() >= 25.0 * (i + 1), "transfers one after the other");
    }
    for (const Event& event : sends) stream.wait(event);
    const double before = milliseconds();
    all->barrier();
    stream.wait(group->broadcast(stream, f32(from), 0, "broadcast"));
    expect(milliseconds() - before >= 25.0, "a broadcast on the link");
}

// One rank fails while the others wait for it.
void run_failure(World& world) {
    const auto group = world.split(0, 0, "all");
    group->barrier();
    if (world.rank() == 1) throw Error(ExitCode::bad_data, "token 300 of 257");
    group->barrier();
}

void run_timeout(World& world) {
    const auto group = world.split(0, 0, "tensor");
    CpuStream stream;
    std::vector<float> buffer(5);
    if (world.rank() == 0) {
        stream.wait(group->all_reduce(stream, f32(buffer), ReduceOp::sum, "output"));
    } else {
        stream.wait(group->recv(stream, f32(buffer), 0, "never sent"));
    }
}

void run_mismatch(World& world) {
    const auto group = world.split(0, 0, "pipeline");
    CpuStream stream;
    std::vector<float> buffer(world.rank() == 0 ? 5u : 6u);
    if (world.rank() == 0) stream.wait(group->send(stream, f32(buffer), 1, "out"));
    if (world.rank() == 1) stream.wait(group->recv(stream, f32(buffer), 0, "in"));
    group->barrier();
}

// Two ranks issue different collectives; the watchdog says what each did.
void run_differ(World& world) {
    WatchdogOptions options;
    options.report = [](const std::string& message, const std::string&) {
        std::fprintf(stderr, "%s\n", message.c_str());
    };
    options.end = [](ExitCode code) { std::_Exit(static_cast<int>(code)); };
    Watchdog watchdog(world, options);
    const auto group = world.split(0, 0, "data");
    CpuStream stream;
    std::vector<float> buffer(world.rank() == 0 ? 5u : 6u);
    try {
        stream.wait(group->all_reduce(stream, f32(buffer), ReduceOp::sum,
                                      world.rank() == 0 ? "gradients" : "loss"));
    } catch (const Error&) {
        watchdog.compare();
        throw;
    }
}

double microseconds_of(Communicator& group, int repeats, const std::function<void()>& work) {
    for (int i = 0; i < repeats / 10 + 1; ++i) work();
    group.barrier();
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < repeats; ++i) work();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count() / repeats;
}

void run_benchmark(World& world) {
    CpuStream stream;
    const auto group = world.split(0, 0, "all");
    const bool speaks = group->rank() == 0;
    if (speaks) {
        std::printf("%d ranks: floats, microseconds of all_reduce, of a ping-pong in pairs\n",
                    group->size());
    }
    for (const int64_t size : {1, 1024, 16384, 131072, 1048576, 8388608}) {
        std::vector<float> buffer(static_cast<size_t>(size));
        const int repeats = size > 100000 ? 20 : 300;
        const double reduce = microseconds_of(*group, repeats, [&] {
            stream.wait(group->all_reduce(stream, f32(buffer), ReduceOp::sum, "bench"));
        });
        const double ping = microseconds_of(*group, repeats, [&] {
            const int peer = group->rank() ^ 1;
            if (peer >= group->size()) return;
            if (group->rank() < peer) {
                stream.wait(group->send(stream, f32(buffer), peer, "ping"));
                stream.wait(group->recv(stream, f32(buffer), peer, "pong"));
            } else {
                stream.wait(group->recv(stream, f32(buffer), peer, "ping"));
                stream.wait(group->send(stream, f32(buffer), peer, "pong"));
            }
        });
        if (!speaks) continue;
        std::printf("%10lld %12.1f %12.1f\n", static_cast<long long>(size), reduce, ping);
    }
}

}  // namespace

}  // namespace trireme::testing

int main(int count, char** arguments) {
    using namespace trireme;
    const std::string name = count == 2 ? arguments[1] : "";
    const std::chrono::milliseconds timeout =
        name == "timeout" ? std::chrono::seconds(1) : std::chrono::minutes(2);
    std::unique_ptr<World> world;
    int code = 1;
    try {
        world = make_mpi_world(find_launcher(), timeout, name == "rendezvous");
        if (name == "cases") testing::run_cases(*world);
        else if (name == "failure") testing::run_failure(*world);
        else if (name == "timeout") testing::run_timeout(*world);
        else if (name == "mismatch") testing::run_mismatch(*world);
        else if (name == "differ") testing::run_differ(*world);
        else if (name == "rendezvous") testing::run_rendezvous(*world);
        else if (name == "link") testing::run_link(*world);
        else if (name == "bench") testing::run_benchmark(*world);
        else throw std::runtime_error("usage: mpirun -n N parallel_mpi_tests "
                                      "cases | failure | timeout | mismatch | differ | rendezvous "
                                      "| link | bench");
        return 0;
    } catch (const Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        code = static_cast<int>(error.code());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
    }
    if (world) world->abort(code);
    return code;
}
