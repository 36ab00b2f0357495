#include "tests/cuda_emulation/nccl_ranks.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "parallel/rank_order_reduce.h"
#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/nccl_memory.h"

namespace nccl_emulation {

namespace {

constexpr const char* kNames[] = {"ncclAllReduce", "ncclAllGather", "ncclReduceScatter",
                                  "ncclBroadcast", "ncclSend",      "ncclRecv"};

// NCCL chooses between algorithms by size, and connects ranks for each of them.
constexpr size_t kLargeBytes = size_t{64} << 10;

#if defined(__SANITIZE_THREAD__)
constexpr std::chrono::seconds kPatience{120};
#else
constexpr std::chrono::seconds kPatience{20};
#endif
std::atomic<std::chrono::milliseconds> patience{kPatience};

trireme::DType dtype_of(ncclDataType_t type) {
    switch (type) {
        case ncclUint8:
            return trireme::DType::u8;
        case ncclFloat32:
            return trireme::DType::f32;
        case ncclFloat64:
            return trireme::DType::f64;
        case ncclBfloat16:
            return trireme::DType::bf16;
    }
    fail("an unknown element type");
}

void move_data(Meeting& meeting) {
    const Call& first = meeting.calls[0];
    const trireme::DType type = dtype_of(first.type);
    const size_t bytes = first.bytes(), size = meeting.calls.size();
    const auto elements = static_cast<int64_t>(first.count);
    const auto op = first.op == ncclSum ? trireme::ReduceOp::sum : trireme::ReduceOp::max;
    std::vector<const void*> sources(size);
    std::vector<char> result(first.kind == Kind::all_gather || first.kind == Kind::reduce_scatter
                                 ? bytes * size
                                 : bytes);
    const auto reduce_part = [&](size_t offset, char* to) {
        for (size_t r = 0; r < size; ++r) {
            sources[r] = static_cast<const char*>(meeting.calls[r].from) + offset;
        }
        reduce_in_rank_order(sources.data(), static_cast<int>(size), elements, type, op, to);
    };
    // Into memory of its own first: outputs may be parts of inputs.
    for (size_t r = 0; r < size; ++r) {
        if (first.kind == Kind::all_reduce && r == 0) reduce_part(0, result.data());
        if (first.kind == Kind::reduce_scatter) reduce_part(r * bytes, result.data() + r * bytes);
        if (first.kind == Kind::all_gather) {
            std::memcpy(result.data() + r * bytes, meeting.calls[r].from, bytes);
        }
        if (first.kind == Kind::broadcast && static_cast<int>(r) == first.peer) {
            std::memcpy(result.data(), meeting.calls[r].from, bytes);
        }
    }
    for (size_t r = 0; r < size; ++r) {
        if (first.kind == Kind::reduce_scatter) {
            std::memcpy(meeting.calls[r].to, result.data() + r * bytes, bytes);
        } else {
            std::memcpy(meeting.calls[r].to, result.data(), result.size());
        }
    }
}

[[noreturn]] void fail_hang(const Member& member, const Call& call, uint64_t number,
                            const char* waits_for) {
    fail(member.describe() + " has waited " + std::to_string(patience_now().count()) +
         " ms in operation " + std::to_string(number) + ", " + call.text() + ", for " + waits_for);
}

// False when the communicator was aborted.
bool meet(Member& member, std::unique_lock<std::mutex>& lock, const Call& call, uint64_t number) {
    Group& group = *member.group;
    const uint64_t place = member.collectives++;
    Meeting& meeting = group.meetings[place];
    meeting.calls.resize(static_cast<size_t>(group.size), call);
    meeting.calls[static_cast<size_t>(member.rank)] = call;
    const Call& first = meeting.calls[static_cast<size_t>(member.rank == 0 ? 1 : 0)];
    if (meeting.arrived > 0 && !std::all_of(meeting.calls.begin(), meeting.calls.end(),
                                            [&](const Call& c) { return c.matches(call); })) {
        fail("collective " + std::to_string(place) + " of '" + member.name +
             "' differs between ranks: " + call.text() + " and " + first.text());
    }
    if (meeting.arrived > 0 && (first.registered != call.registered || first.head != call.head)) {
        fail("collective " + std::to_string(place) + " of '" + member.name + "', " + call.text() +
             ", in memory that is registered on some ranks only, or begins elsewhere in it");
    }
    if (++meeting.arrived == static_cast<size_t>(group.size)) {
        move_data(meeting);
        meeting.done = true;
        group.changed.notify_all();
    } else if (!group.wait(lock, [&] { return meeting.done; })) {
        if (!group.aborted) fail_hang(member, call, number, "the other ranks");
        return false;
    }
    if (--meeting.arrived == 0) group.meetings.erase(place);
    return true;
}

void deliver(const Transfer& transfer, const Member& member) {
    const Call &send = transfer.send, &recv = transfer.recv;
    if (send.count != recv.count || send.type != recv.type) {
        fail("a message that differs on both sides: " + send.text() + " and " + recv.text());
    }
    if (send.registered != recv.registered) {
        fail("a message between registered memory and memory that is not, of " + member.describe());
    }
    std::memcpy(recv.to, send.from, send.bytes());
}

std::pair<int, int> edge_of(const Member& member, const Call& call) {
    if (call.kind == Kind::send) return {member.rank, call.peer};
    return {call.peer, member.rank};
}

// All begin before the first is waited for. False when the communicator was aborted.
bool exchange(Member& member, std::unique_lock<std::mutex>& lock, const Calls& messages,
              uint64_t number) {
    Group& group = *member.group;
    std::vector<uint64_t> places;
    for (const Call& call : messages) {
        places.push_back(member.messages[{call.kind, call.peer}]++);
        Transfer& transfer = group.pairs[edge_of(member, call)][places.back()];
        (call.kind == Kind::send ? transfer.send : transfer.recv) = call;
        if (++transfer.arrived < 2) continue;
        deliver(transfer, member);
        group.changed.notify_all();
    }
    for (size_t i = 0; i < messages.size(); ++i) {
        auto& transfers = group.pairs[edge_of(member, messages[i])];
        Transfer& transfer = transfers[places[i]];
        if (!group.wait(lock, [&] { return transfer.arrived >= 2; })) {
            if (!group.aborted) {
                fail_hang(member, messages[i], number, "the other side of a message");
            }
            return false;
        }
        if (++transfer.arrived == 4) transfers.erase(places[i]);
    }
    return true;
}

Connection connection_of(const Member& member, const Call& call) {
    if (!call.is_message()) return {call.kind, call.bytes() >= kLargeBytes, -1, -1};
    const auto [from, to] = edge_of(member, call);
    return {Kind::send, false, from, to};
}

}  // namespace

std::chrono::milliseconds patience_now() {
    return patience.load();
}

size_t Call::bytes() const {
    return count * trireme::size_of(dtype_of(type));
}

std::string Call::text() const {
    return std::string(kNames[static_cast<int>(kind)]) + " of " + std::to_string(count) +
           " elements of type " + std::to_string(type) + ", op " + std::to_string(op) +
           ", peer or root " + std::to_string(peer);
}

std::string Member::describe() const {
    return "rank " + std::to_string(rank) + " of communicator '" + name + "'";
}

// All are begun before the first is waited for: members may name theirs in different orders.
ncclResult_t connect(Member& member, const Calls& calls) {
    Group& group = *member.group;
    std::unique_lock lock(group.mutex);
    for (const Call& call : calls) {
        const Connection connection = connection_of(member, call);
        if (member.connected.count(connection)) continue;
        group.connecting[connection].insert(member.rank);
        group.changed.notify_all();
    }
    for (const Call& call : calls) {
        const Connection connection = connection_of(member, call);
        if (member.connected.count(connection)) continue;
        size_t needed = static_cast<size_t>(group.size);
        if (call.is_message()) needed = call.peer == member.rank ? 1 : 2;
        const std::set<int>& connecting = group.connecting[connection];
        if (!group.wait(lock, [&] { return connecting.size() == needed; })) {
            return group.aborted ? ncclRemoteError : ncclSystemError;
        }
        member.connected.insert(connection);
    }
    return group.aborted ? ncclRemoteError : ncclSuccess;
}

void perform(Member& member, const Calls& calls, uint64_t number) {
    Group& group = *member.group;
    std::unique_lock lock(group.mutex);
    const Call& first = calls.front();
    if (group.wait(lock, [&] { return member.finished == number; })) {
        if (first.is_message() ? exchange(member, lock, calls, number)
                               : meet(member, lock, first, number)) {
            ++member.finished;
            group.changed.notify_all();
            return;
        }
    } else if (!group.aborted) {
        fail_hang(member, first, number, "an operation issued earlier, on another stream");
    }
    // As on a GPU, where kernels do not learn of a failure elsewhere.
    member.error = ncclRemoteError;
    if (!group.changed.wait_for(lock, patience_now(), [&] { return member.aborted; })) {
        fail_hang(member, first, number, "its own abort after that of another rank");
    }
}

}  // namespace nccl_emulation

namespace cuda_emulation {

void set_nccl_patience(std::chrono::milliseconds time) {
    nccl_emulation::patience = time;
}

}  // namespace cuda_emulation
