#include "tests/parallel/communicator_cases.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "tests/core/expect.h"

namespace trireme::testing {

using test::expect;

namespace {

// The largest messages do not leave before they are received.
const std::vector<int64_t> kSizes = {0, 1, 3, 257, 5003, 150001};

template <typename T>
std::vector<int64_t> sizes() {
    if (DTypeOf<T>::value == DType::f32) return kSizes;
    return {0, 1, 3, 257, 30011};
}

// Something that sums inexactly, so that another order of addition shows.
template <typename T>
T value(int rank, int64_t i) {
    const int64_t mixed = (i * 7919 + rank * 104729 + 13) % 10007;
    if constexpr (std::is_integral_v<T>) return static_cast<T>(mixed);  // a part of 1 would be 0
    return T(static_cast<float>(mixed - 5000) / 37.0f * (rank % 2 ? 1e-3f : 1.0f));
}

template <typename T>
std::vector<T> values(int rank, int64_t count, int64_t first = 0) {
    std::vector<T> result(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) result[static_cast<size_t>(i)] = value<T>(rank, first + i);
    return result;
}

template <typename T>
Tensor tensor(std::vector<T>& data) {
    return {data.data(), DTypeOf<T>::value, {static_cast<int64_t>(data.size())}};
}

template <typename T>
struct SumType {
    using type = T;
};
template <>
struct SumType<bf16> {
    using type = float;
};

template <typename T>
std::vector<T> reduced(int ranks, int64_t count, ReduceOp op, int64_t first = 0) {
    using Sum = typename SumType<T>::type;
    const std::vector<T> own = values<T>(0, count, first);
    std::vector<Sum> total(own.begin(), own.end());
    for (int rank = 1; rank < ranks; ++rank) {
        // From memory: multiplied and added in one instruction they would round differently.
        const std::vector<T> next = values<T>(rank, count, first);
        for (size_t i = 0; i < next.size(); ++i) {
            const Sum other = next[i];
            total[i] = op == ReduceOp::sum ? total[i] + other : std::max(total[i], other);
        }
    }
    std::vector<T> result;
    for (const Sum sum : total) result.push_back(T(sum));
    return result;
}

template <typename T>
void expect_same(const std::vector<T>& found, const std::vector<T>& expected,
                 const std::string& what) {
    for (size_t i = 0; i < expected.size(); ++i) {
        if (std::memcmp(&found[i], &expected[i], sizeof(T)) == 0) continue;
        expect(false, what + ", " + std::string(name_of(DTypeOf<T>::value)) + ", element " +
                          std::to_string(i) + " of " + std::to_string(expected.size()) + ": " +
                          std::to_string(static_cast<double>(found[i])) + " instead of " +
                          std::to_string(static_cast<double>(expected[i])));
    }
}

template <typename T>
void all_reduce_type(Communicator& group, ReduceOp op) {
    CpuStream stream;
    for (const int64_t size : sizes<T>()) {
        std::vector<T> buffer = values<T>(group.rank(), size);
        stream.wait(group.all_reduce(stream, tensor(buffer), op, "case all_reduce"));
        expect_same(buffer, reduced<T>(group.size(), size, op),
                    op == ReduceOp::sum ? "all_reduce sum" : "all_reduce max");
    }
}

void all_reduce_case(World& world) {
    const auto group = world.split(0, world.rank(), "all");
    all_reduce_type<float>(*group, ReduceOp::sum);
    all_reduce_type<float>(*group, ReduceOp::max);
    all_reduce_type<bf16>(*group, ReduceOp::sum);
    all_reduce_type<double>(*group, ReduceOp::sum);
    all_reduce_type<double>(*group, ReduceOp::max);
}

template <typename T>
void reduce_scatter_type(Communicator& group) {
    CpuStream stream;
    const int n = group.size();
    for (const int64_t size : sizes<T>()) {
        const std::vector<T> expected = reduced<T>(n, size, ReduceOp::sum, size * group.rank());
        std::vector<T> whole = values<T>(group.rank(), size * n);
        std::vector<T> shard(static_cast<size_t>(size));
        stream.wait(group.reduce_scatter(stream, tensor(whole), tensor(shard), "case scatter"));
        expect_same(shard, expected, "reduce_scatter");
        const Tensor all = tensor(whole);
        const Tensor own = all.flat_range(size * group.rank(), size);
        stream.wait(group.reduce_scatter(stream, all, own, "case scatter in place"));
        std::copy_n(static_cast<T*>(own.data), size, shard.begin());
        expect_same(shard, expected, "reduce_scatter in place");
        const std::vector<T> before = values<T>(group.rank(), size * n);
        std::copy_n(before.begin() + size * group.rank(), size, static_cast<T*>(own.data));
        expect_same(whole, before, "all else after reduce_scatter in place");
    }
}

void reduce_scatter_case(World& world) {
    const auto group = world.split(0, world.rank(), "all");
    reduce_scatter_type<float>(*group);
    reduce_scatter_type<bf16>(*group);
    reduce_scatter_type<double>(*group);
}

template <typename T>
void gather_type(Communicator& group) {
    CpuStream stream;
    const int n = group.size();
    for (const int64_t size : sizes<T>()) {
        std::vector<T> expected;
        for (int rank = 0; rank < n; ++rank) {
            const std::vector<T> part = values<T>(rank, size);
            expected.insert(expected.end(), part.begin(), part.end());
        }
        std::vector<T> shard = values<T>(group.rank(), size);
        std::vector<T> whole(expected.size());
        stream.wait(group.all_gather(stream, tensor(shard), tensor(whole), "case gather"));
        expect_same(whole, expected, "all_gather");
        std::fill(whole.begin(), whole.end(), T{});
        const Tensor own = tensor(whole).flat_range(size * group.rank(), size);
        std::copy(shard.begin(), shard.end(), static_cast<T*>(own.data));
        stream.wait(group.all_gather(stream, own, tensor(whole), "case gather in place"));
        expect_same(whole, expected, "all_gather in place");
    }
}

void gather_case(World& world) {
    const auto group = world.split(0, world.rank(), "all");
    gather_type<float>(*group);
    gather_type<bf16>(*group);
    gather_type<double>(*group);
    gather_type<int32_t>(*group);
    gather_type<int64_t>(*group);
    gather_type<uint8_t>(*group);
}

template <typename T>
std::vector<T> blocks_for(int member, int size, int64_t block) {
    std::vector<T> expected;
    for (int rank = 0; rank < size; ++rank) {
        const std::vector<T> part = values<T>(rank, block, block * member);
        expected.insert(expected.end(), part.begin(), part.end());
    }
    return expected;
}

template <typename T>
void all_to_all_type(Communicator& group) {
    CpuStream stream;
    const int n = group.size();
    for (const int64_t size : sizes<T>()) {
        const std::vector<T> before = values<T>(group.rank(), size * n);
        std::vector<T> from = before, to(from.size());
        stream.wait(group.all_to_all(stream, tensor(from), tensor(to), "case all_to_all"));
        expect_same(to, blocks_for<T>(group.rank(), n, size), "all_to_all");
        expect_same(from, before, "what all_to_all only reads");
    }
}

void all_to_all_case(World& world) {
    const auto group = world.split(0, world.rank(), "all");
    all_to_all_type<float>(*group);
    all_to_all_type<bf16>(*group);
    all_to_all_type<int32_t>(*group);
    all_to_all_type<uint8_t>(*group);
}

// Collectives of several kinds that nobody waits for in between; each takes its own turn.
void mixed_collectives_case(World& world) {
    CpuStream stream;
    const auto group = world.split(0, world.rank(), "all");
    const int n = group->size(), me = group->rank();
    constexpr int kMany = 60;
    constexpr int64_t kSize = 257;
    std::vector<std::vector<float>> from, to, sum, shard, whole, copy;
    for (int i = 0; i < kMany; ++i) {
        from.push_back(values<float>(me + i, kSize * n));
        to.emplace_back(from.back().size());
        sum.push_back(values<float>(me, kSize, i));
        shard.push_back(values<float>(me, kSize, i));
        whole.emplace_back(from.back().size());
        copy.push_back(values<float>(me, kSize, i));
    }
    Event last;
    for (size_t i = 0; i < kMany; ++i) {
        group->all_to_all(stream, tensor(from[i]), tensor(to[i]), "case mixed");
        group->all_reduce(stream, tensor(sum[i]), ReduceOp::sum, "case mixed");
        if (i % 2 == 0) group->all_gather(stream, tensor(shard[i]), tensor(whole[i]), "case mixed");
        last = group->broadcast(stream, tensor(copy[i]), static_cast<int>(i) % n, "case mixed");
    }
    stream.wait(last);  // in order: all before it are done as well
    for (int i = 0; i < kMany; ++i) {
        const auto at = static_cast<size_t>(i);
        for (int rank = 0; rank < n; ++rank) {
            const auto block = to[at].begin() + kSize * rank;
            expect_same(std::vector<float>(block, block + kSize),
                        values<float>(rank + i, kSize, kSize * me), "one all_to_all of many");
            if (i % 2 == 1) continue;
            const auto part = whole[at].begin() + kSize * rank;
            expect_same(std::vector<float>(part, part + kSize), values<float>(rank, kSize, i),
                        "an all_gather between");
        }
        expect_same(sum[at], reduced<float>(n, kSize, ReduceOp::sum, i), "a sum between");
        expect_same(copy[at], values<float>(i % n, kSize, i), "a broadcast between");
    }
}

void broadcast_case(World& world) {
    CpuStream stream;
    const auto group = world.split(0, world.rank(), "all");
    for (int root = 0; root < group->size(); ++root) {
        for (const int64_t size : kSizes) {
            std::vector<int32_t> buffer = values<int32_t>(group->rank(), size);
            stream.wait(group->broadcast(stream, tensor(buffer), root, "case broadcast"));
            expect_same(buffer, values<int32_t>(root, size), "broadcast");
        }
        group->barrier();
    }
}

// Messages to both neighbours at once, receives first on half of the ranks; large ones as well, of
// which none can leave before the other side is ready.
void ring_case(World& world) {
    CpuStream stream;
    const auto group = world.split(0, world.rank(), "ring");
    const int n = group->size();
    if (n == 1) return;
    const int me = group->rank();
    const int next = (me + 1) % n;
    const int previous = (me + n - 1) % n;
    std::vector<std::vector<float>> forward, backward, from_previous, from_next;
    for (const int64_t size : kSizes) {
        forward.push_back(values<float>(me, size));
        backward.push_back(values<float>(me + n, size));
        from_previous.emplace_back(static_cast<size_t>(size));
        from_next.emplace_back(static_cast<size_t>(size));
    }
    std::vector<Event> events;
    const auto send = [&] {
        for (size_t i = 0; i < kSizes.size(); ++i) {
            events.push_back(group->send(stream, tensor(forward[i]), next, "case forward"));
        }
        for (size_t i = 0; i < kSizes.size(); ++i) {
            events.push_back(group->send(stream, tensor(backward[i]), previous, "case backward"));
        }
    };
    const auto receive = [&] {
        for (size_t i = 0; i < kSizes.size(); ++i) {
            events.push_back(group->recv(stream, tensor(from_previous[i]), previous, "case prev"));
        }
        for (size_t i = 0; i < kSizes.size(); ++i) {
            events.push_back(group->recv(stream, tensor(from_next[i]), next, "case next"));
        }
    };
    if (me % 2 == 0) {
        send();
        receive();
    } else {
        receive();
        send();
    }
    for (const Event& event : events) stream.wait(event);
    for (size_t i = 0; i < kSizes.size(); ++i) {
        expect_same(from_previous[i], values<float>(previous, kSizes[i]), "from the previous rank");
        expect_same(from_next[i], values<float>(next + n, kSizes[i]), "from the next rank");
    }
}

// A receive that waits for its sender holds up neither collectives nor sends, and the order of
// issue on two groups may differ from rank to rank.
void independent_queues_case(World& world) {
    CpuStream stream;
    const auto one = world.split(0, world.rank(), "one");
    const auto two = world.split(0, world.rank(), "two");
    const int n = one->size();
    const int me = one->rank();
    constexpr int64_t kSize = 70001;
    std::vector<float> incoming(kSize), a, b;
    Event received;
    if (n > 1 && me == 0) received = one->recv(stream, tensor(incoming), n - 1, "case late");
    for (int round = 0; round < 20; ++round) {
        a = values<float>(me, kSize, round);
        b = values<float>(me, kSize, round + 100);
        Event first, second;
        if (me % 2 == 0) {
            first = one->all_reduce(stream, tensor(a), ReduceOp::sum, "case one");
            second = two->all_reduce(stream, tensor(b), ReduceOp::sum, "case two");
        } else {
            second = two->all_reduce(stream, tensor(b), ReduceOp::sum, "case two");
            first = one->all_reduce(stream, tensor(a), ReduceOp::sum, "case one");
        }
        stream.wait(second);
        stream.wait(first);
        expect_same(a, reduced<float>(n, kSize, ReduceOp::sum, round), "the first group");
        expect_same(b, reduced<float>(n, kSize, ReduceOp::sum, round + 100), "the second group");
    }
    if (n > 1 && me == 0) {
        expect(!received.source->done(received.ticket), "a receive nobody sent to is not done");
    }
    one->barrier();
    if (n > 1 && me == n - 1) {
        std::vector<float> outgoing = values<float>(me, kSize);
        stream.wait(one->send(stream, tensor(outgoing), 0, "case late"));
    }
    if (n > 1 && me == 0) {
        stream.wait(received);
        expect_same(incoming, values<float>(n - 1, kSize), "the late message");
    }
}

// More operations under way than a block of the queues holds.
void many_in_flight_case(World& world) {
    CpuStream stream;
    const auto group = world.split(0, world.rank(), "all");
    constexpr int kMany = 300;
    for (int round = 0; round < 3; ++round) {
        std::vector<std::vector<float>> buffers;
        std::vector<Event> events;
        for (int i = 0; i < kMany; ++i) buffers.push_back(values<float>(group->rank(), 5, i));
        for (auto& buffer : buffers) {
            events.push_back(group->all_reduce(stream, tensor(buffer), ReduceOp::sum, "case many"));
        }
        stream.wait(events.back());  // in order: all before it are done as well
        for (int i = 0; i < kMany; ++i) {
            expect_same(buffers[static_cast<size_t>(i)],
                        reduced<float>(group->size(), 5, ReduceOp::sum, i), "one of many");
        }
    }
}

void split_case(World& world) {
    CpuStream stream;
    const int n = world.size();
    const int me = world.rank();
    // Even and odd ranks, the highest first; then only rank 0 in no group.
    const auto halves = world.split(me % 2, -me, "halves");
    const int members = (n - me % 2 + 1) / 2;
    expect(halves->size() == members, "size of half the world");
    expect(halves->rank() == members - 1 - me / 2, "order by key");
    expect(halves->name() == "halves", "name of the group");
    std::vector<int32_t> mine = {me};
    std::vector<int32_t> all(static_cast<size_t>(members));
    stream.wait(halves->all_gather(stream, tensor(mine), tensor(all), "case halves"));
    for (int i = 0; i < members; ++i) {
        expect(all[static_cast<size_t>(i)] == me % 2 + 2 * (members - 1 - i), "members by key");
    }
    const auto others = world.split(me == 0 ? -1 : 5, 0, "others");
    expect(!others == (me == 0), "no group for a negative color");
    if (others) {
        expect(others->size() == n - 1 && others->rank() == me - 1, "order by rank");
        others->barrier();
    }
    expect(world.local_size() == n && world.local_rank() == me, "all ranks on this host");
}

}  // namespace

const std::vector<CommunicatorCase>& communicator_cases() {
    static const std::vector<CommunicatorCase> cases = {
        {"groups hold the ranks of one color by key", split_case},
        {"all_reduce adds in rank order", all_reduce_case},
        {"reduce_scatter gives each its part of the sum", reduce_scatter_case},
        {"all_gather puts shards in rank order", gather_case},
        {"all_to_all brings each member its block of every other's", all_to_all_case},
        {"collectives of several kinds keep their order", mixed_collectives_case},
        {"broadcast copies the root's buffer", broadcast_case},
        {"messages travel both ways round a ring", ring_case},
        {"queues do not wait for one another", independent_queues_case},
        {"hundreds of operations may be under way", many_in_flight_case},
    };
    return cases;
}

}  // namespace trireme::testing
