#include <atomic>
#include <thread>

#include "core/cpu/cpu_device.h"
#include "parallel/forwarding_world.h"
#include "tests/core/error_of.h"
#include "tests/gpu/gpu_ranks.h"

#ifdef TRIREME_CUDA_EMULATED
#include "tests/cuda_emulation/emulation.h"
#endif

namespace trireme::test {

namespace {

using Catch::Contains;
using std::chrono::milliseconds;

// Counts the parts that begin and those that throw, for ranks that wait for others to get there.
class Failures {
public:
    void count(const std::function<void()>& part) {
        ++begun_;
        try {
            part();
        } catch (const Error&) {
            ++count_;
            throw;
        }
    }
    void wait_for_begun(int parts) const { wait_until(begun_, parts); }
    void wait_for_one() const { wait_until(count_, 1); }
    int count() const { return count_; }

private:
    static void wait_until(const std::atomic<int>& counter, int value) {
        const auto limit = std::chrono::steady_clock::now() + kLong;
        while (counter < value && std::chrono::steady_clock::now() < limit) {
            std::this_thread::sleep_for(milliseconds(1));
        }
    }

    std::atomic<int> begun_{0}, count_{0};
};

Error error_of(int ranks, const RankBody& body, milliseconds timeout = kLong) {
    return test::error_of([&] { run_gpu_ranks(ranks, body, timeout); });
}

// The time-out with which `ranks` are left waiting. A short one may pass before they have come to
// the wait that is meant, where the machine stands still meanwhile: then a longer one.
Error hang_of(int ranks, const std::function<RankBody(Failures&)>& body, const std::string& wait) {
    for (milliseconds timeout(500);; timeout *= 6) {
        Failures failures;
        const Error error = error_of(ranks, body(failures), timeout);
        const bool meant = std::string(error.what()).find(wait) != std::string::npos;
        if (meant || 6 * timeout > kLong) return error;
    }
}

}  // namespace

TEST_CASE("a rank that fails ends the waits of the others for their GPUs", "[gpu][comm]") {
    if (!enough_gpus(4)) return;
    Failures failures;
    const Error error = error_of(4, [&](World& world, CudaDevice& device) {
        const auto group = world.split(0, world.rank(), "all");
        const auto line = world.split(0, world.rank(), "line", GroupUse::neighbours);
        Array<float> buffer(device, 1000);
        CudaStream& stream = device.compute();
        if (world.rank() == 1) {
            failures.wait_for_begun(3);
            throw Error(ExitCode::bad_data, "token 300 of 257");
        }
        failures.count([&] {
            if (world.rank() == 3) line->recv(stream, buffer.get(), 2, "never sent");
            stream.wait(group->all_reduce(stream, buffer.get(), ReduceOp::sum, "output"));
            buffer.download();
        });
    });
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(std::string(error.what()) == "token 300 of 257");
    CHECK(failures.count() == 3);
}

TEST_CASE("a wait for other GPUs that lasts too long names operation, group and member",
          "[gpu][comm]") {
    if (!enough_gpus(3)) return;
    const std::string all_reduce = "collective 2 (all_reduce sum of 3 F32 'output')";
    const auto without_member = [](Failures& failures) {
        return [&failures](World& world, CudaDevice& device) {
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
        };
    };
    const Error collective = hang_of(3, without_member, all_reduce);
    CHECK(collective.code() == ExitCode::hang);
    CHECK_THAT(collective.what(), Contains("communication hangs: rank") && Contains(all_reduce) &&
                                      Contains("group 'tensor' (ranks 0, 1, 2)"));
    const std::string recv = "receive 1 (recv of 3 F32 'gradient' from rank 1)";
    const auto without_sender = [](Failures& failures) {
        return [&failures](World& world, CudaDevice& device) {
            const auto group = world.split(0, -world.rank(), "line", GroupUse::neighbours);
            CudaStream& stream = device.compute();
            Array<float> buffer(device, 3);
            if (world.rank() != 0) return failures.wait_for_one();
            failures.count([&] {
                stream.wait(group->recv(stream, buffer.get(), 1, "gradient"));
                stream.synchronize();
            });
        };
    };
    const Error receive = hang_of(3, without_sender, recv);
    CHECK(receive.code() == ExitCode::hang);
    CHECK_THAT(receive.what(), Contains(recv) && Contains("group 'line' (ranks 2, 1, 0)"));
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
        // Its kernel is loaded by now, for which CUDA may wait for all that is under way.
        device.ops().add(stream, buffer.get(), sum.get());
        if (world.rank() == 0) {
            stream.wait(line->recv(stream, buffer.get(), 1, "never sent"));
            device.ops().add(stream, buffer.get(), sum.get());
        }
        group->all_reduce(stream, sum.get(), ReduceOp::sum, "sum");
        if (world.rank() == 0) throw Error(ExitCode::numerics, "loss is NaN");
        stream.synchronize();
        group->barrier();
    };
    CHECK(error_of(2, body).code() == ExitCode::numerics);
}

#ifdef TRIREME_CUDA_EMULATED

#ifdef __SANITIZE_THREAD__
constexpr milliseconds kShort{3000};
#else
constexpr milliseconds kShort{500};
#endif

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
