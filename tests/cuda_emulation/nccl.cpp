// NCCL with ranks as threads of one process. As in NCCL, the operations of one communicator run one
// after the other in the order of issue, whatever their streams; the first operations of a kind
// block the host until all that take part have called; an operation waits for the others without
// end; the messages of one group of calls are one operation and wait for none of each other. What
// would hang a program, and what NCCL leaves undefined, ends it here with a message.

#include <nccl.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/nccl_memory.h"
#include "tests/cuda_emulation/nccl_ranks.h"

using namespace nccl_emulation;

struct ncclComm {
    std::shared_ptr<Member> member;
};

namespace {

// Never destroyed: a thread may wait in here when the program ends.
struct Registry {
    std::mutex mutex;
    uint64_t ids = 0;
    std::map<uint64_t, std::shared_ptr<Group>> groups;  // not all of whose ranks have come yet
};
Registry& registry() {
    static auto* the_registry = new Registry;
    return *the_registry;
}

// What a thread has called since ncclGroupStart.
struct OpenGroup {
    int depth = 0;
    ncclComm_t comm = nullptr;
    cudaStream_t stream = nullptr;
    Calls calls;
};
thread_local OpenGroup open_group;

void forget(ncclComm_t comm) {
    forget_registrations(comm);
    delete comm;
}

ncclResult_t start(ncclComm_t comm, const Calls& calls, cudaStream_t stream) {
    const std::shared_ptr<Member> member = comm->member;
    if (const ncclResult_t result = connect(*member, calls); result != ncclSuccess) return result;
    uint64_t number = 0;
    {
        const std::lock_guard lock(member->group->mutex);
        number = member->issued++;
    }
    cuda_emulation::enqueue(stream, [member, calls, number] { perform(*member, calls, number); });
    return ncclSuccess;
}

ncclResult_t issue(ncclComm_t comm, Call call, cudaStream_t stream, size_t from_parts,
                   size_t to_parts) {
    const Member& member = *comm->member;
    if (call.count == 0) fail("an operation without elements");
    if (call.is_message() && (call.peer < 0 || call.peer >= member.group->size)) {
        fail(call.text() + " of '" + member.name + "', which has no such rank");
    }
    const size_t from_bytes = call.bytes() * from_parts, to_bytes = call.bytes() * to_parts;
    if (call.from) check_memory(call.from, from_bytes);
    if (call.to) check_memory(call.to, to_bytes);
    const Registered registered =
        look_up_registrations(comm, member.name, {call.from, from_bytes, call.to, to_bytes});
    if (call.from && call.to && registered.from != registered.to) {
        fail(call.text() + " of '" + member.name +
             "' with only one of its buffers in registered memory");
    }
    call.registered = registered.from || registered.to;
    call.head = registered.head;
    if (open_group.depth == 0) return start(comm, {call}, stream);
    if (!call.is_message()) fail("a collective in a group of calls, which is not emulated");
    if (!open_group.calls.empty() && (open_group.comm != comm || open_group.stream != stream)) {
        fail("a group of calls of several communicators or streams, which is not emulated");
    }
    open_group.comm = comm;
    open_group.stream = stream;
    open_group.calls.push_back(call);
    return ncclSuccess;
}

}  // namespace

const char* ncclGetErrorString(ncclResult_t result) {
    return result == ncclRemoteError ? "remote process exited or there was a network error"
                                     : "an emulated error";
}

const char* ncclGetLastError(ncclComm_t) {
    return "no details";
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
    if (has_registrations(comm)) fail(member.describe() + " is destroyed with registrations");
    std::unique_lock lock(group.mutex);
    const bool flushed = group.wait(lock, [&] { return member.finished == member.issued; });
    if (!flushed && !group.aborted) {
        fail(member.describe() + " is destroyed with operations that hang");
    }
    ++group.left;
    group.changed.notify_all();
    // The real one may wait for the others, too.
    const bool all_left = group.wait(lock, [&] { return group.left >= group.size; });
    if (!all_left && !group.aborted) {
        fail(member.describe() + " is destroyed, but not on all ranks");
    }
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

ncclResult_t ncclCommDeregister(ncclComm_t comm, void* handle) {
    {
        const std::lock_guard lock(comm->member->group->mutex);
        if (comm->member->finished != comm->member->issued) {
            fail(comm->member->describe() + " forgets memory while operations are under way");
        }
    }
    forget_registration(comm, handle);
    return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
    ++open_group.depth;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    if (open_group.depth == 0) fail("the end of a group of calls that was not started");
    if (--open_group.depth > 0 || open_group.calls.empty()) return ncclSuccess;
    const OpenGroup group = std::exchange(open_group, {});
    return start(group.comm, group.calls, group.stream);
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
