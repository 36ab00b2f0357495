// NCCL with ranks as threads of one process. As in NCCL, the operations of one communicator run one
// after the other in the order of issue, whatever their streams; the first operations of a kind
// block the host until all that take part have called; an operation waits for the others without
// end. What would hang a program, and what NCCL leaves undefined, ends it here with a message.

#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "parallel/rank_order_reduce.h"
#include "tests/cuda_emulation/emulation.h"

namespace {

enum class Kind { all_reduce, all_gather, reduce_scatter, broadcast, send, recv };
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
std::atomic<bool> host_memory_allowed{false};

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "NCCL emulation: %s\n", what.c_str());
    std::abort();
}

struct Call {
    Kind kind;
    const void* from = nullptr;
    void* to = nullptr;
    size_t count = 0;
    ncclDataType_t type = ncclUint8;
    ncclRedOp_t op = ncclSum;
    int peer = -1;  // or root
    // Its memory is registered with the communicator. head: how far into what is registered a
    // collective's larger buffer begins.
    bool registered = false;
    std::ptrdiff_t head = 0;

    bool is_message() const { return kind == Kind::send || kind == Kind::recv; }
    bool matches(const Call& other) const {
        return std::tie(kind, count, type, op, peer) ==
               std::tie(other.kind, other.count, other.type, other.op, other.peer);
    }
    std::string text() const {
        return std::string(kNames[static_cast<int>(kind)]) + " of " + std::to_string(count) +
               " elements of type " + std::to_string(type) + ", op " + std::to_string(op) +
               ", peer or root " + std::to_string(peer);
    }
};

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

struct Meeting {
    std::vector<Call> calls;  // of the ranks
    size_t arrived = 0;
    bool done = false;
};

struct Transfer {
    Call send, recv;
    int arrived = 0;
};

// The communicators of all ranks that were made with one id.
struct Group {
    explicit Group(int n) : size(n) {}

    std::mutex mutex;  // guards everything here and in the members
    std::condition_variable changed;
    const int size;
    std::set<int> joined;
    int left = 0;
    bool aborted = false;
    std::map<uint64_t, Meeting> meetings;                               // by number
    std::map<std::pair<int, int>, std::map<uint64_t, Transfer>> pairs;  // by number
    std::map<std::tuple<Kind, bool, int, int>, std::set<int>> connecting;

    // False when a member was aborted, or patience ended.
    template <typename Condition>
    bool wait(std::unique_lock<std::mutex>& lock, const Condition& condition) {
        return changed.wait_for(lock, patience.load(), [&] { return aborted || condition(); }) &&
               !aborted;
    }
};

struct Member {
    std::shared_ptr<Group> group;
    int rank = 0;
    std::string name;
    uint64_t issued = 0, finished = 0;  // operations
    uint64_t collectives = 0;           // finished
    std::map<std::pair<int, int>, uint64_t> messages;
    std::set<std::tuple<Kind, bool, int, int>> connected;
    ncclResult_t error = ncclSuccess;
    bool aborted = false;
};

struct Registration {
    ncclComm_t comm = nullptr;
    const char* begin = nullptr;
    size_t bytes = 0;
};

// Never destroyed: a thread may wait in here when the program ends.
struct Registry {
    std::mutex mutex;
    uint64_t ids = 0;
    std::map<uint64_t, std::shared_ptr<Group>> groups;  // not all of whose ranks have come yet
    std::map<const char*, size_t> memory;               // from ncclMemAlloc
    std::map<void*, Registration> registered;           // by handle
    uint64_t registrations = 0;
    std::map<std::string, cuda_emulation::NcclTraffic> traffic;  // by communicator's name
};
Registry& registry() {
    static auto* the_registry = new Registry;
    return *the_registry;
}

void perform(Meeting& meeting) {
    const Call& first = meeting.calls[0];
    const trireme::DType type = dtype_of(first.type);
    const size_t bytes = first.count * trireme::size_of(type), size = meeting.calls.size();
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

std::string who(const Member& member) {
    return "rank " + std::to_string(member.rank) + " of communicator '" + member.name + "'";
}

[[noreturn]] void fail_hang(const Member& member, const Call& call, uint64_t number,
                            const char* waits_for) {
    fail(who(member) + " has waited " + std::to_string(patience.load().count()) +
         " ms in operation " + std::to_string(number) + ", " + call.text() + ", for " + waits_for);
}

// On the stream's thread. False when the communicator was aborted.
bool meet(Member& member, std::unique_lock<std::mutex>& lock, const Call& call, uint64_t number) {
    Group& group = *member.group;
    if (call.is_message()) {
        const bool is_send = call.kind == Kind::send;
        const auto edge =
            is_send ? std::pair(member.rank, call.peer) : std::pair(call.peer, member.rank);
        const uint64_t place = member.messages[edge]++;
        Transfer& transfer = group.pairs[edge][place];
        (is_send ? transfer.send : transfer.recv) = call;
        if (++transfer.arrived == 2) {
            if (transfer.send.count != transfer.recv.count ||
                transfer.send.type != transfer.recv.type) {
                fail("a message that differs on both sides: " + transfer.send.text() + " and " +
                     transfer.recv.text());
            }
            if (transfer.send.registered != transfer.recv.registered) {
                fail("a message between registered memory and memory that is not, of " +
                     who(member));
            }
            const size_t bytes =
                transfer.send.count * trireme::size_of(dtype_of(transfer.send.type));
            std::memcpy(transfer.recv.to, transfer.send.from, bytes);
            group.changed.notify_all();
        } else if (!group.wait(lock, [&] { return transfer.arrived >= 2; })) {
            if (!group.aborted) fail_hang(member, call, number, "the other side of a message");
            return false;
        }
        if (++transfer.arrived == 4) group.pairs[edge].erase(place);
        return true;
    }
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
        perform(meeting);
        meeting.done = true;
        group.changed.notify_all();
    } else if (!group.wait(lock, [&] { return meeting.done; })) {
        if (!group.aborted) fail_hang(member, call, number, "the other ranks");
        return false;
    }
    if (--meeting.arrived == 0) group.meetings.erase(place);
    return true;
}

// On the host: the first operation that needs a connection waits for all that it connects.
ncclResult_t connect(Member& member, const Call& call) {
    Group& group = *member.group;
    const size_t bytes = call.count * trireme::size_of(dtype_of(call.type));
    auto key = std::tuple(call.kind, bytes >= kLargeBytes, -1, -1);
    size_t needed = static_cast<size_t>(group.size);
    if (call.kind == Kind::send) key = std::tuple(Kind::send, false, member.rank, call.peer);
    if (call.kind == Kind::recv) key = std::tuple(Kind::send, false, call.peer, member.rank);
    if (call.is_message()) needed = 2;
    std::unique_lock lock(group.mutex);
    if (member.connected.count(key)) return group.aborted ? ncclRemoteError : ncclSuccess;
    std::set<int>& connecting = group.connecting[key];
    connecting.insert(member.rank);
    group.changed.notify_all();
    if (!group.wait(lock, [&] { return connecting.size() == needed; })) {
        return group.aborted ? ncclRemoteError : ncclSystemError;
    }
    member.connected.insert(key);
    return ncclSuccess;
}

}  // namespace

struct ncclComm {
    std::shared_ptr<Member> member;
};

namespace {

void forget(ncclComm_t comm) {
    const std::lock_guard lock(registry().mutex);
    std::erase_if(registry().registered, [&](const auto& of) { return of.second.comm == comm; });
    delete comm;
}

void check_memory(const void* memory, size_t bytes) {
    if (host_memory_allowed || cuda_emulation::is_device_memory(memory, bytes)) return;
    fail("a buffer that is no device memory, or is too short");
}

// The registration with this communicator that holds all of the memory, or null.
const Registration* registration_of(ncclComm_t comm, const void* memory, size_t bytes) {
    const auto* begin = static_cast<const char*>(memory);
    for (const auto& [handle, known] : registry().registered) {
        if (known.comm == comm && begin >= known.begin &&
            begin + bytes <= known.begin + known.bytes) {
            return &known;
        }
    }
    return nullptr;
}

void look_up_registrations(ncclComm_t comm, Call& call, size_t from_bytes, size_t to_bytes) {
    const std::lock_guard lock(registry().mutex);
    const Registration* from = call.from ? registration_of(comm, call.from, from_bytes) : nullptr;
    const Registration* to = call.to ? registration_of(comm, call.to, to_bytes) : nullptr;
    if (call.from && call.to && !from != !to) {
        fail(call.text() + " of '" + comm->member->name +
             "' with only one of its buffers in registered memory");
    }
    call.registered = from || to;
    if (call.registered && !call.is_message()) {
        call.head = from_bytes > to_bytes ? static_cast<const char*>(call.from) - from->begin
                                          : static_cast<const char*>(call.to) - to->begin;
    }
    cuda_emulation::NcclTraffic& traffic = registry().traffic[comm->member->name];
    (call.registered ? traffic.registered : traffic.other) += std::max(from_bytes, to_bytes);
}

ncclResult_t issue(ncclComm_t comm, Call call, cudaStream_t stream, size_t from_parts,
                   size_t to_parts) {
    const std::shared_ptr<Member> member = comm->member;
    const size_t bytes = call.count * trireme::size_of(dtype_of(call.type));
    if (call.count == 0) fail("an operation without elements");
    if (call.from) check_memory(call.from, bytes * from_parts);
    if (call.to) check_memory(call.to, bytes * to_parts);
    look_up_registrations(comm, call, bytes * from_parts, bytes * to_parts);
    if (const ncclResult_t result = connect(*member, call); result != ncclSuccess) return result;
    uint64_t number = 0;
    {
        const std::lock_guard lock(member->group->mutex);
        number = member->issued++;
    }
    cuda_emulation::enqueue(stream, [member, call, number] {
        Group& group = *member->group;
        std::unique_lock lock(group.mutex);
        if (group.wait(lock, [&] { return member->finished == number; })) {
            if (meet(*member, lock, call, number)) {
                ++member->finished;
                group.changed.notify_all();
                return;
            }
        } else if (!group.aborted) {
            fail_hang(*member, call, number, "an operation issued earlier, on another stream");
        }
        // As on a GPU, where kernels do not learn of a failure elsewhere.
        member->error = ncclRemoteError;
        if (!group.changed.wait_for(lock, patience.load(), [&] { return member->aborted; })) {
            fail_hang(*member, call, number, "its own abort after that of another rank");
        }
    });
    return ncclSuccess;
}

}  // namespace

namespace cuda_emulation {

void set_nccl_patience(std::chrono::milliseconds time) {
    patience = time;
}

void allow_host_memory_in_nccl(bool allowed) {
    host_memory_allowed = allowed;
}

std::map<std::string, NcclTraffic> take_nccl_traffic() {
    const std::lock_guard lock(registry().mutex);
    return std::exchange(registry().traffic, {});
}

size_t nccl_registrations() {
    const std::lock_guard lock(registry().mutex);
    return registry().registered.size();
}

}  // namespace cuda_emulation

const char* ncclGetErrorString(ncclResult_t result) {
    return result == ncclRemoteError ? "remote process exited or there was a network error"
                                     : "an emulated error";
}

const char* ncclGetLastError(ncclComm_t) {
    return "no details";
}

ncclResult_t ncclMemAlloc(void** memory, size_t bytes) {
    if (cudaMalloc(memory, bytes) != cudaSuccess) return ncclUnhandledCudaError;
    const std::lock_guard lock(registry().mutex);
    registry().memory[static_cast<const char*>(*memory)] = bytes;
    return ncclSuccess;
}

ncclResult_t ncclMemFree(void* memory) {
    if (!memory) return ncclSuccess;
    {
        const std::lock_guard lock(registry().mutex);
        const auto found = registry().memory.find(static_cast<const char*>(memory));
        if (found == registry().memory.end()) fail("ncclMemFree of what ncclMemAlloc did not give");
        for (const auto& [handle, registration] : registry().registered) {
            const char* begin = registration.begin;
            if (begin >= found->first && begin < found->first + found->second) {
                fail("ncclMemFree of memory that is still registered");
            }
        }
        registry().memory.erase(found);
    }
    return cudaFree(memory) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    const std::lock_guard lock(registry().mutex);
    const uint64_t number = ++registry().ids;
    *id = {};
    std::memcpy(id->internal, &number, sizeof number);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
    if (config->blocking != 1) fail("only blocking communicators are emulated");
    uint64_t number = 0;
    std::memcpy(&number, id.internal, sizeof number);
    auto member = std::make_shared<Member>();
    member->rank = rank;
    member->name = config->commName ? config->commName : "";
    {
        const std::lock_guard lock(registry().mutex);
        if (number == 0 || number > registry().ids) fail("an id that ncclGetUniqueId did not make");
        std::shared_ptr<Group>& group = registry().groups[number];
        if (!group) group = std::make_shared<Group>(ranks);
        if (group->size != ranks) fail("ranks that differ about the size of a communicator");
        member->group = group;
    }
    Group& group = *member->group;
    {
        std::unique_lock lock(group.mutex);
        if (rank < 0 || rank >= ranks || !group.joined.insert(rank).second) {
            fail("a rank twice in a communicator");
        }
        group.changed.notify_all();
        if (!group.wait(lock, [&] { return static_cast<int>(group.joined.size()) == ranks; })) {
            return group.aborted ? ncclRemoteError : ncclSystemError;
        }
    }
    {
        const std::lock_guard lock(registry().mutex);
        registry().groups.erase(number);
    }
    *comm = new ncclComm{std::move(member)};
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    Member& member = *comm->member;
    Group& group = *member.group;
    {
        const std::lock_guard of_registry(registry().mutex);
        for (const auto& [handle, registration] : registry().registered) {
            if (registration.comm == comm) fail(who(member) + " is destroyed with registrations");
        }
    }
    std::unique_lock lock(group.mutex);
    const bool flushed = group.wait(lock, [&] { return member.finished == member.issued; });
    if (!flushed && !group.aborted) fail(who(member) + " is destroyed with operations that hang");
    ++group.left;
    group.changed.notify_all();
    // The real one may wait for the others, too.
    const bool all_left = group.wait(lock, [&] { return group.left >= group.size; });
    if (!all_left && !group.aborted) fail(who(member) + " is destroyed, but not on all ranks");
    lock.unlock();
    forget(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    {
        const std::lock_guard lock(comm->member->group->mutex);
        comm->member->group->aborted = true;
        comm->member->aborted = true;
    }
    comm->member->group->changed.notify_all();
    forget(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
    const std::lock_guard lock(comm->member->group->mutex);
    *error = comm->member->error;
    return ncclSuccess;
}

ncclResult_t ncclCommRegister(ncclComm_t comm, void* memory, size_t bytes, void** handle) {
    const std::lock_guard lock(registry().mutex);
    const auto* begin = static_cast<const char*>(memory);
    const auto next = registry().memory.upper_bound(begin);
    if (next == registry().memory.begin() ||
        begin + bytes > std::prev(next)->first + std::prev(next)->second) {
        fail("registration of memory that is not from ncclMemAlloc");
    }
    *handle = reinterpret_cast<void*>(++registry().registrations);
    registry().registered[*handle] = {comm, begin, bytes};
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(ncclComm_t comm, void* handle) {
    {
        const std::lock_guard lock(comm->member->group->mutex);
        if (comm->member->finished != comm->member->issued) {
            fail(who(*comm->member) + " forgets memory while operations are under way");
        }
    }
    const std::lock_guard lock(registry().mutex);
    const auto found = registry().registered.find(handle);
    if (found == registry().registered.end() || found->second.comm != comm) {
        fail("a registration that is unknown, of another communicator, or forgotten already");
    }
    registry().registered.erase(found);
    return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    return issue(comm, {Kind::all_reduce, from, to, count, type, op}, stream, 1, 1);
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    const auto size = static_cast<size_t>(comm->member->group->size);
    return issue(comm, {Kind::all_gather, from, to, count, type}, stream, 1, size);
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    const auto size = static_cast<size_t>(comm->member->group->size);
    return issue(comm, {Kind::reduce_scatter, from, to, count, type, op}, stream, size, 1);
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    return issue(comm, {Kind::broadcast, from, to, count, type, ncclSum, root}, stream, 1, 1);
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
    return issue(comm, {Kind::send, from, nullptr, count, type, ncclSum, peer}, stream, 1, 1);
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return issue(comm, {Kind::recv, nullptr, to, count, type, ncclSum, peer}, stream, 1, 1);
}
