#include <atomic>
#include <cstdlib>
#include <thread>

#include "core/cpu/cpu_device.h"
#include "parallel/forwarding_world.h"
#include "tests/gpu/gpu_ranks.h"

#ifdef TRIREME_CUDA_EMULATED
#include "tests/cuda_emulation/emulation.h"
#endif

namespace trireme::test {

namespace {

using Catch::Contains;
using std::chrono::milliseconds;

#ifdef __SANITIZE_THREAD__
constexpr milliseconds kShort{3000};
#else
constexpr milliseconds kShort{500};
#endif

// Counts what throws, for ranks that stay away until another has noticed.
class Failures {
public:
    void count(const std::function<void()>& part) {
        try {
            part();
        } catch (const Error&) {
            ++count_;
            throw;
        }
    }
    void wait_for_one() const {
        const auto limit = std::chrono::steady_clock::now() + kLong;
        while (count_ == 0 && std::chrono::steady_clock::now() < limit) {
            std::this_thread::sleep_for(milliseconds(1));
        }
    }
    int count() const { return count_; }

private:
    std::atomic<int> count_{0};
};

Error error_of(int ranks, const RankBody& body, milliseconds timeout = kLong) {
    try {
        run_gpu_ranks(ranks, body, timeout);
    } catch (const Error& error) {
        return error;
    }
    FAIL("expected an Error");
    std::abort();
}

}  // namespace

TEST_CASE("a rank that fails ends the waits of the others for their GPUs", "[gpu][comm]") {
    if (!enough_gpus(4)) return;
    Failures failures;
    const Error error = error_of(
        4,
        [&](World& world, CudaDevice& device) {
            const auto group = world.split(0, world.rank(), "all");
            const auto line = world.split(0, world.rank(), "line", GroupUse::neighbours);
            Array<float> buffer(device, 1000);
            CudaStream& stream = device.compute();
            group->barrier();
            if (world.rank() == 1) throw Error(ExitCode::bad_data, "token 300 of 257");
            failures.count([&] {
                if (world.rank() == 3) line->recv(stream, buffer.get(), 2, "never sent");
                stream.wait(group->all_reduce(stream, buffer.get(), ReduceOp::sum, "output"));
                buffer.download();
            });
        },
        kShort);
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(std::string(error.what()) == "token 300 of 257");
    CHECK(failures.count() == 3);
}

TEST_CASE("a wait for other GPUs that lasts too long names operation, group and member",
          "[gpu][comm]") {
    if (!enough_gpus(3)) return;
    Failures failures;
    const Error collective = error_of(
        3,
        [&](World& world, CudaDevice& device) {
            const auto data = world.split(0, world.rank(), "data");
            const auto tensor = world.split(0, world.rank(), "tensor");
            CudaStream& stream = device.compute();
            Array<float> buffer(device, 3), other(device, 3);
            tensor->barrier();
            data->barrier();
            if (world.rank() == 1) return failures.wait_for_one();
            failures.count([&] {
                stream.wait(tensor->all_reduce(stream, buffer.get(), ReduceOp::sum, "output"));
                // Waits for compute, which waits for the other: not to be blamed.
                data->all_reduce(stream, other.get(), ReduceOp::sum, "gradients");
                buffer.download();
            });
        },
        kShort);
    CHECK(collective.code() == ExitCode::hang);
    CHECK_THAT(collective.what(), Contains("communication hangs: rank") &&
                                      Contains("collective 2 (all_reduce sum of 3 F32 'output')") &&
                                      Contains("group 'tensor' (ranks 0, 1, 2)"));
    Failures late;
    const Error receive = error_of(
        3,
        [&](World& world, CudaDevice& device) {
            const auto group = world.split(0, -world.rank(), "line", GroupUse::neighbours);
            CudaStream& stream = device.compute();
            Array<float> buffer(device, 3);
            if (world.rank() != 0) return late.wait_for_one();
            late.count([&] {
                stream.wait(group->recv(stream, buffer.get(), 1, "gradient"));
                stream.synchronize();
            });
        },
        kShort);
    CHECK(receive.code() == ExitCode::hang);
    CHECK_THAT(receive.what(), Contains("receive 1 (recv of 3 F32 'gradient' from rank 1)") &&
                                   Contains("group 'line' (ranks 2, 1, 0)"));
}

TEST_CASE("an exception ends the communication that it leaves behind on a GPU", "[gpu][comm]") {
    if (!enough_gpus(2)) return;
    const auto body = [](World& world, CudaDevice& device) {
        const auto group = world.split(0, world.rank(), "all");
        const auto line = world.split(0, world.rank(), "line", GroupUse::neighbours);
        CudaStream& stream = device.compute();
        // Freed as the exception passes, with a receive into it under way that compute waits for.
        Array<float> buffer(device, 5000), sum(device, 5000);
        line->register_memory(buffer.get());
        if (world.rank() == 0) {
            stream.wait(line->recv(stream, buffer.get(), 1, "never sent"));
            device.ops().add(stream, buffer.get(), sum.get());
        }
        group->all_reduce(stream, sum.get(), ReduceOp::sum, "sum");
        if (world.rank() == 0) throw Error(ExitCode::numerics, "loss is NaN");
        stream.synchronize();
        group->barrier();
    };
    CHECK(error_of(2, body, kShort).code() == ExitCode::numerics);
}

#ifdef TRIREME_CUDA_EMULATED

// With a member that never comes, NCCL does not return to the rank's thread.
TEST_CASE("a call into NCCL that does not return ends the run", "[gpu][comm][long]") {
    class Control final : public ForwardingWorld {
    public:
        Control(World& world, std::atomic<int>& code) : ForwardingWorld(world), code_(code) {}
        [[noreturn]] void abort(int exit_code) override {
            code_ = exit_code;
            throw Error(ExitCode::hang, "in place of ending the process");
        }

    private:
        std::atomic<int>& code_;
    };
    std::atomic<int> code{0};
    cuda_emulation::set_nccl_patience(3 * kShort);
    const auto body = [&](World& world) {
        if (world.rank() == 1) {
            // What a split does first, and no more.
            const auto members = world.split(0, 1, "all", GroupUse::collectives);
            CpuStream host;
            std::vector<int32_t> rank(1, 1), ranks(2);
            std::vector<uint8_t> id(128);
            host.wait(members->all_gather(host, Tensor(rank.data(), DType::i32, {1}),
                                          Tensor(ranks.data(), DType::i32, {2}),
                                          "ranks of a group"));
            host.wait(members->broadcast(host, Tensor(id.data(), DType::u8, {128}), 0,
                                         "NCCL's addresses"));
            return;
        }
        Control control(world, code);
        CudaDevice device(0, CudaOpsOptions{});
        make_nccl_world(control, device, kShort)->split(0, 0, "all");
    };
    CHECK_THROWS_WITH(run_thread_ranks(2, body),
                      Contains("NCCL to return from 'making the communicator' in group 'all'"));
    CHECK(code == static_cast<int>(ExitCode::hang));
    cuda_emulation::set_nccl_patience(std::chrono::minutes(2));
}

#endif

}  // namespace trireme::test
