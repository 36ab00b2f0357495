#include <deque>
#include <memory>
#include <utility>

#include "parallel/forwarding_world.h"
#include "parallel/mesh.h"
#include "tests/gpu/gpu_ranks.h"
#include "tests/parallel/communicator_cases.h"

#ifdef TRIREME_CUDA_EMULATED
#include "tests/cuda_emulation/emulation.h"
#endif

namespace trireme::test {

namespace {

const std::vector<int64_t> kSizes = {0, 1, 257, 5003};

template <typename T>
void check_all_reduce(Communicator& group, CudaDevice& device, ReduceOp op) {
    CudaStream& stream = device.compute();
    for (const int64_t size : kSizes) {
        Array<T> buffer(device, values<T>(group.rank(), size));
        stream.wait(group.all_reduce(stream, buffer.get(), op, "test"));
        buffer.expect(reduced<T>(group.size(), size, op), "all_reduce");
    }
}

template <typename T>
void check_reduce_scatter(Communicator& group, CudaDevice& device) {
    CudaStream& stream = device.compute();
    const int n = group.size(), me = group.rank();
    for (const int64_t size : kSizes) {
        const auto expected = reduced<T>(n, size, ReduceOp::sum, size * me);
        const std::vector<T> whole_values = values<T>(me, size * n);
        Array<T> whole(device, whole_values), shard(device, size);
        stream.wait(group.reduce_scatter(stream, whole.get(), shard.get(), "test"));
        shard.expect(expected, "reduce_scatter");
        whole.expect(whole_values, "what was only read");
        const Tensor own = whole.get().flat_range(size * me, size);
        stream.wait(group.reduce_scatter(stream, whole.get(), own, "test"));
        whole.expect(own, expected, "reduce_scatter in place");
    }
}

template <typename T>
void check_moves(Communicator& group, CudaDevice& device) {
    CudaStream& stream = device.compute();
    const int n = group.size(), me = group.rank();
    for (const int64_t size : kSizes) {
        std::vector<T> expected;
        for (int r = 0; r < n; ++r) {
            const std::vector<T> part = values<T>(r, size);
            expected.insert(expected.end(), part.begin(), part.end());
        }
        Array<T> shard(device, values<T>(me, size)), whole(device, size * n);
        stream.wait(group.all_gather(stream, shard.get(), whole.get(), "test"));
        whole.expect(expected, "all_gather");
        Array<T> in_place(device, values<T>(me, size * n, -size * me));
        stream.wait(group.all_gather(stream, in_place.get().flat_range(size * me, size),
                                     in_place.get(), "test"));
        in_place.expect(expected, "all_gather in place");
        const int root = static_cast<int>(size) % n;
        stream.wait(group.broadcast(stream, shard.get(), root, "test"));
        shard.expect(values<T>(root, size), "broadcast");
    }
}

template <typename T>
void check_all_to_all(Communicator& group, CudaDevice& device) {
    CudaStream& stream = device.compute();
    const int n = group.size(), me = group.rank();
    for (const int64_t size : kSizes) {
        std::vector<T> expected;
        for (int r = 0; r < n; ++r) {
            const std::vector<T> block = values<T>(r, size, size * me);
            expected.insert(expected.end(), block.begin(), block.end());
        }
        const std::vector<T> before = values<T>(me, size * n);
        Array<T> from(device, before), to(device, size * n);
        stream.wait(group.all_to_all(stream, from.get(), to.get(), "test"));
        to.expect(expected, "all_to_all");
        from.expect(before, "what all_to_all only reads");
    }
}

void check_collectives(World& world, CudaDevice& device) {
    const auto group = world.split(0, world.rank(), "all");
    check_all_reduce<float>(*group, device, ReduceOp::sum);
    check_all_reduce<float>(*group, device, ReduceOp::max);
    check_all_reduce<bf16>(*group, device, ReduceOp::sum);
    check_all_reduce<double>(*group, device, ReduceOp::sum);
    check_all_reduce<double>(*group, device, ReduceOp::max);
    check_reduce_scatter<float>(*group, device);
    check_reduce_scatter<bf16>(*group, device);
    check_reduce_scatter<double>(*group, device);
    check_moves<float>(*group, device);
    check_moves<bf16>(*group, device);
    check_moves<double>(*group, device);
    check_moves<int32_t>(*group, device);
    check_moves<int64_t>(*group, device);
    check_moves<uint8_t>(*group, device);
    check_all_to_all<float>(*group, device);
    check_all_to_all<bf16>(*group, device);
    check_all_to_all<int32_t>(*group, device);
    group->barrier();
}

// Activations travel to the next member and gradients to the one before, each computed from what
// came in, many rounds ahead of the host's wait; receives are posted before anything that they
// depend on. `wraps`: the first and the last member are neighbours too.
void check_pipeline(World& world, CudaDevice& device, bool wraps) {
    constexpr int kRounds = 12;
    constexpr int64_t kSize = 257;
    const auto activations = world.split(0, world.rank(), "activations", GroupUse::neighbours);
    const auto gradients = world.split(0, world.rank(), "gradients", GroupUse::neighbours);
    CudaStream& stream = device.compute();
    Ops& ops = device.ops();
    const int n = world.size(), me = world.rank();
    const bool first = me == 0, last = me == n - 1;
    const int next = (me + 1) % n, previous = (me + n - 1) % n;
    std::deque<Array<float>> in, out, gradient_in, gradient_out, around;
    Array<float> one(device, std::vector<float>(kSize, 1.0f));
    std::vector<Event> arrived, gradient_arrived;
    for (int i = 0; i < kRounds; ++i) {
        in.emplace_back(device, std::vector<float>(kSize, static_cast<float>(i)));
        out.emplace_back(device, kSize);
        gradient_in.emplace_back(device, std::vector<float>(kSize, static_cast<float>(100 * i)));
        gradient_out.emplace_back(device, kSize);
        around.emplace_back(device, kSize);
    }
    const auto at = [](std::deque<Array<float>>& arrays, int i) {
        return arrays[static_cast<size_t>(i)].get();
    };
    const auto add_one = [&](const Tensor& from, const Tensor& to) {
        ops.copy(stream, from, to);
        ops.add(stream, one.get(), to);
    };
    // Loads the kernels, for which CUDA may wait for all that is under way.
    add_one(one.get(), at(out, 0));
    for (int i = 0; i < kRounds; ++i) {
        Event& here = arrived.emplace_back();
        if (!first) here = activations->recv(stream, at(in, i), previous, "activation");
        Event& back = gradient_arrived.emplace_back();
        if (!last) back = gradients->recv(stream, at(gradient_in, i), next, "gradient");
    }
    std::vector<Event> closed;
    for (int i = 0; first && wraps && i < kRounds; ++i) {
        closed.push_back(activations->recv(stream, at(around, i), previous, "around"));
    }
    for (int i = 0; i < kRounds; ++i) {
        stream.wait(arrived[static_cast<size_t>(i)]);
        add_one(at(in, i), at(out, i));
        if (!last) activations->send(stream, at(out, i), next, "activation");
        if (last && wraps) activations->send(stream, at(out, i), next, "around");
    }
    for (int i = 0; i < kRounds; ++i) {
        stream.wait(gradient_arrived[static_cast<size_t>(i)]);
        add_one(at(gradient_in, i), at(gradient_out, i));
        if (!first) gradients->send(stream, at(gradient_out, i), previous, "gradient");
    }
    for (const Event& event : closed) stream.wait(event);
    for (int i = 0; i < kRounds; ++i) {
        const auto expect_all = [&](std::deque<Array<float>>& arrays, int expected,
                                    const char* what) {
            arrays[static_cast<size_t>(i)].expect(
                std::vector<float>(kSize, static_cast<float>(expected)), what);
        };
        expect_all(out, i + me + 1, "activation");
        expect_all(gradient_out, 100 * i + n - me, "gradient");
        if (first && wraps) expect_all(around, i + n, "activation round the ring");
    }
}

// Both directions in one group, everything sent before anything is received on even ranks.
void check_both_ways(World& world, CudaDevice& device) {
    constexpr int kMessages = 30;
    const auto group = world.split(0, world.rank(), "ring", GroupUse::neighbours);
    CudaStream& stream = device.compute();
    const int n = world.size(), me = world.rank();
    const int next = (me + 1) % n, previous = (me + n - 1) % n;
    Array<int32_t> ahead(device, values<int32_t>(me, kMessages));
    Array<int32_t> back(device, values<int32_t>(me + n, kMessages));
    Array<int32_t> from_previous(device, kMessages), from_next(device, kMessages);
    std::vector<Event> events;
    const auto send = [&] {
        for (int i = 0; i < kMessages; ++i) {
            events.push_back(group->send(stream, ahead.get().flat_range(i, 1), next, "ahead"));
        }
        for (int i = 0; i < kMessages; ++i) {
            events.push_back(group->send(stream, back.get().flat_range(i, 1), previous, "back"));
        }
    };
    if (me % 2 == 0) send();
    for (int i = 0; i < kMessages; ++i) {
        events.push_back(
            group->recv(stream, from_previous.get().flat_range(i, 1), previous, "ahead"));
    }
    for (int i = 0; i < kMessages; ++i) {
        events.push_back(group->recv(stream, from_next.get().flat_range(i, 1), next, "back"));
    }
    if (me % 2 == 1) send();
    for (const Event& event : events) stream.wait(event);
    from_previous.expect(values<int32_t>(previous, kMessages), "from the previous");
    from_next.expect(values<int32_t>(next + n, kMessages), "from the next");
}

std::vector<int> members(Communicator& group, CudaDevice& device, int world_rank) {
    Array<int32_t> own(device, std::vector<int32_t>{world_rank});
    Array<int32_t> all(device, group.size());
    device.compute().wait(group.all_gather(device.compute(), own.get(), all.get(), "members"));
    return all.download();
}

// The world rank of the member before this one along the pipeline.
int rank_before(Communicator& group, CudaDevice& device, int world_rank) {
    CudaStream& stream = device.compute();
    Array<int32_t> own(device, std::vector<int32_t>{world_rank});
    Array<int32_t> other(device, 1);
    const int n = group.size(), me = group.rank();
    const Event received = group.recv(stream, other.get(), (me + n - 1) % n, "rank before");
    stream.wait(group.send(stream, own.get(), (me + 1) % n, "rank before"));
    stream.wait(received);
    return other.download()[0];
}

#ifdef TRIREME_CUDA_EMULATED

// Makes a group for collectives and one for messages of each group.
class BothUses final : public Communicator {
public:
    BothUses(std::unique_ptr<Communicator> collectives, std::unique_ptr<Communicator> messages)
        : collectives_(std::move(collectives)), messages_(std::move(messages)) {}

    int rank() const override { return collectives_->rank(); }
    int size() const override { return collectives_->size(); }
    const std::string& name() const override { return collectives_->name(); }
    Event all_reduce(Stream& after, const Tensor& buffer, ReduceOp op, const char* label) override {
        return collectives_->all_reduce(after, buffer, op, label);
    }
    Event all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                     const char* label) override {
        return collectives_->all_gather(after, shard, whole, label);
    }
    Event reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                         const char* label) override {
        return collectives_->reduce_scatter(after, whole, shard, label);
    }
    Event all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                     const char* label) override {
        return collectives_->all_to_all(after, from, to, label);
    }
    Event broadcast(Stream& after, const Tensor& buffer, int root, const char* label) override {
        return collectives_->broadcast(after, buffer, root, label);
    }
    Event send(Stream& after, const Tensor& buffer, int peer, const char* label) override {
        return messages_->send(after, buffer, peer, label);
    }
    Event recv(Stream& after, const Tensor& buffer, int peer, const char* label) override {
        return messages_->recv(after, buffer, peer, label);
    }
    void barrier() override { collectives_->barrier(); }

private:
    std::unique_ptr<Communicator> collectives_, messages_;
};

class BothUsesWorld final : public ForwardingWorld {
public:
    using ForwardingWorld::ForwardingWorld;
    std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                        GroupUse) override {
        auto collectives = ForwardingWorld::split(color, key, name, GroupUse::collectives);
        auto messages = ForwardingWorld::split(color, key, name, GroupUse::neighbours);
        if (!collectives) return nullptr;
        // The cases issue large all_reduces of two groups in different orders, which NCCL can do
        // once it has connected the ranks for this size.
        CpuStream host;
        std::vector<float> large(30000);
        const Tensor tensor(large.data(), DType::f32, {30000});
        host.wait(collectives->all_reduce(host, tensor, ReduceOp::sum, "large"));
        return std::make_unique<BothUses>(std::move(collectives), std::move(messages));
    }
};

#endif

}  // namespace

TEST_CASE("collectives between GPUs give each rank what the contract says", "[gpu][comm]") {
    const int ranks = GENERATE(1, 2, 3, 4, 8);
    if (!enough_gpus(ranks)) return;
    REQUIRE_NOTHROW(run_gpu_ranks(ranks, check_collectives));
}

TEST_CASE("activations and gradients pass each other along a pipeline of GPUs", "[gpu][comm]") {
    const int ranks = GENERATE(2, 3, 4, 5, 8);
    const bool wraps = GENERATE(false, true);
    if (!enough_gpus(ranks)) return;
    CAPTURE(ranks, wraps);
    REQUIRE_NOTHROW(run_gpu_ranks(
        ranks, [&](World& world, CudaDevice& device) { check_pipeline(world, device, wraps); }));
}

TEST_CASE("messages travel both ways round a ring of GPUs", "[gpu][comm]") {
    const int ranks = GENERATE(2, 3, 4, 5, 8);
    if (!enough_gpus(ranks)) return;
    CAPTURE(ranks);
    REQUIRE_NOTHROW(run_gpu_ranks(ranks, check_both_ways));
}

TEST_CASE("a mesh of GPUs joins the ranks that differ along each axis", "[gpu][comm]") {
    if (!enough_gpus(8)) return;
    const MeshShape shape{.tensor = 2, .data = 2, .pipeline = 2};
    REQUIRE_NOTHROW(run_gpu_ranks(8, [&](World& world, CudaDevice& device) {
        Mesh mesh(world, shape, 1);
        const int me = world.rank();
        const auto check = [&](Communicator& group, std::vector<int> expected) {
            expect(members(group, device, me) == expected, "members of group " + group.name());
        };
        const int t = me & 1, d = me & 2, p = me & 4;
        check(mesh.all(), {0, 1, 2, 3, 4, 5, 6, 7});
        check(mesh.tensor(), {d + p, d + p + 1});
        check(mesh.tensor_kv(), {d + p, d + p + 1});
        check(mesh.data(), {t + p, t + p + 2});
        check(*mesh.embedding(), {t + d, t + d + 4});
        const int other_stage = me ^ 4;
        expect(rank_before(mesh.pipeline_activations(), device, me) == other_stage, "activations");
        expect(rank_before(mesh.pipeline_gradients(), device, me) == other_stage, "gradients");
    }));
}

TEST_CASE("a group on GPUs refuses what it was not made for", "[gpu][comm]") {
    if (!enough_gpus(4)) return;
    REQUIRE_NOTHROW(run_gpu_ranks(4, [](World& world, CudaDevice& device) {
        const auto collectives = world.split(0, world.rank(), "all");
        const auto messages = world.split(0, world.rank(), "line", GroupUse::neighbours);
        Array<float> buffer(device, 3), twice(device, 7);
        Stream& stream = device.compute();
        const auto refused = [&](const std::function<void()>& call) {
            try {
                call();
            } catch (const InternalError&) {
                return;
            }
            expect(false, "an InternalError");
        };
        const int me = world.rank();
        refused([&] { collectives->send(stream, buffer.get(), (me + 1) % 4, "use"); });
        refused([&] { messages->barrier(); });
        refused([&] { messages->all_reduce(stream, buffer.get(), ReduceOp::sum, "use"); });
        refused([&] { messages->send(stream, buffer.get(), (me + 2) % 4, "no neighbour"); });
        refused([&] { messages->recv(stream, buffer.get(), me, "itself"); });
        refused([&] { collectives->all_gather(stream, buffer.get(), twice.get(), "size"); });
        Array<float> four(device, 4), also_four(device, 4), six(device, 6);
        refused([&] { messages->all_to_all(stream, four.get(), also_four.get(), "use"); });
        refused([&] { collectives->all_to_all(stream, four.get(), four.get(), "itself"); });
        refused([&] { collectives->all_to_all(stream, buffer.get(), buffer.get(), "blocks"); });
        refused([&] { collectives->all_to_all(stream, four.get(), six.get(), "size"); });
        collectives->barrier();
    }));
}

TEST_CASE("registered memory may be freed before the group that knows it", "[gpu][comm]") {
    if (!enough_gpus(3)) return;
    REQUIRE_NOTHROW(run_gpu_ranks(3, [](World& world, CudaDevice& device) {
        const auto group = world.split(0, world.rank(), "data");
        const auto messages = world.split(0, world.rank(), "line", GroupUse::neighbours);
        const auto alone = world.split(world.rank(), 0, "alone");
        Array<float> kept(device, values<float>(world.rank(), 1000));
        for (int round = 0; round < 2; ++round) {
            Array<float> buffer(device, values<float>(world.rank(), 1000));
            for (Communicator* each : {group.get(), messages.get(), alone.get()}) {
                each->register_memory(buffer.get());
                each->register_memory(kept.get().flat_range(500, 500));
            }
            device.compute().wait(
                group->all_reduce(device.compute(), buffer.get(), ReduceOp::sum, "registered"));
            buffer.expect(reduced<float>(3, 1000, ReduceOp::sum), "a registered buffer");
        }
    }));
}

TEST_CASE("exchanges and sums of GPUs follow one another without a wait of the host",
          "[gpu][comm]") {
    const int ranks = GENERATE(1, 2, 3, 4);
    if (!enough_gpus(ranks)) return;
    REQUIRE_NOTHROW(run_gpu_ranks(ranks, [](World& world, CudaDevice& device) {
        constexpr int kRounds = 40;
        constexpr int64_t kSize = 257;
        const auto group = world.split(0, world.rank(), "all");
        CudaStream& stream = device.compute();
        const int n = group->size(), me = group->rank();
        Array<float> here(device, values<float>(me, kSize * n)), there(device, kSize * n);
        Array<float> one(device, std::vector<float>(static_cast<size_t>(kSize * n), 1.0f));
        Array<float> sum(device, std::vector<float>(1, 1.0f));
        double total = 1.0;
        // Loads the kernel, for which CUDA may wait for all that is under way.
        device.ops().add(stream, one.get(), there.get());
        for (int i = 0; i < kRounds; ++i) {
            // There and back: the blocks are where they were, one larger.
            stream.wait(group->all_to_all(stream, here.get(), there.get(), "there"));
            device.ops().add(stream, one.get(), there.get());
            if (i % 8 == 0) {
                stream.wait(group->all_reduce(stream, sum.get(), ReduceOp::sum, "between"));
                total *= n;
            }
            stream.wait(group->all_to_all(stream, there.get(), here.get(), "back"));
        }
        std::vector<float> expected = values<float>(me, kSize * n);
        for (float& element : expected) element += kRounds;
        here.expect(expected, "what went there and back");
        sum.expect({static_cast<float>(total)}, "the sum between");
    }));
}

TEST_CASE("thousands of operations may be under way on a GPU", "[gpu][comm]") {
    if (!enough_gpus(2)) return;
    REQUIRE_NOTHROW(run_gpu_ranks(2, [](World& world, CudaDevice& device) {
        constexpr int kMany = 3000;
        const auto group = world.split(0, world.rank(), "all");
        CudaStream& stream = device.compute();
        Array<double> buffer(device, std::vector<double>(1, 1.0));
        Event early;
        for (int i = 0; i < kMany; ++i) {
            const Event event = group->all_reduce(stream, buffer.get(), ReduceOp::max, "many");
            if (i == 10) early = event;
        }
        stream.wait(early);
        early.source->host_wait(early.ticket);
        expect(early.source->done(early.ticket), "an event that was waited for to be done");
        group->barrier();
        expect(early.source->native_event(early.ticket) == nullptr, "a finished event to be free");
        buffer.expect({1.0}, "many");
    }));
}

#ifdef TRIREME_CUDA_EMULATED

namespace {

void check_cases_of_every_carrier(int ranks) {
    // Device memory of an emulated GPU is host memory.
    cuda_emulation::allow_host_memory_in_nccl(true);
    for (const auto& one : testing::communicator_cases()) {
        INFO(ranks << " ranks: " << one.name);
        REQUIRE_NOTHROW(run_gpu_ranks(ranks, [&](World& world, CudaDevice&) {
            BothUsesWorld both(world);
            one.run(both);
        }));
    }
    cuda_emulation::allow_host_memory_in_nccl(false);
}

}  // namespace

TEST_CASE("the cases of every carrier hold with NCCL", "[gpu][comm]") {
    const int ranks = GENERATE(2, 3);
    check_cases_of_every_carrier(ranks);
}

TEST_CASE("the cases of every carrier hold with NCCL among more GPUs", "[gpu][comm][long]") {
    const int ranks = GENERATE(4, 8);
    check_cases_of_every_carrier(ranks);
}

#endif

}  // namespace trireme::test
