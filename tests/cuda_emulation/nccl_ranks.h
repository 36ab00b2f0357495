#pragma once

#include <nccl.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// How the ranks of an emulated communicator meet: on the host for a first operation of a kind, on
// their streams for every one.
namespace nccl_emulation {

enum class Kind { all_reduce, all_gather, reduce_scatter, broadcast, send, recv };

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
    size_t bytes() const;  // of count elements
    std::string text() const;
};

// A collective, or the messages of one group of calls, or a message alone.
using Calls = std::vector<Call>;

struct Meeting {
    std::vector<Call> calls;  // of the ranks
    size_t arrived = 0;
    bool done = false;
};

struct Transfer {
    Call send, recv;
    int arrived = 0;
};

// What a first operation connects: its kind and whether it is large; of a message sender and
// receiver, else -1.
using Connection = std::tuple<Kind, bool, int, int>;

std::chrono::milliseconds patience_now();

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
    std::map<Connection, std::set<int>> connecting;

    // False when a member was aborted, or patience ended.
    template <typename Condition>
    bool wait(std::unique_lock<std::mutex>& lock, const Condition& condition) {
        return changed.wait_for(lock, patience_now(), [&] { return aborted || condition(); }) &&
               !aborted;
    }
};

struct Member {
    std::shared_ptr<Group> group;
    int rank = 0;
    std::string name;
    uint64_t issued = 0, finished = 0;                  // operations
    uint64_t collectives = 0;                           // finished
    std::map<std::pair<Kind, int>, uint64_t> messages;  // begun, by kind and the other side
    std::set<Connection> connected;
    ncclResult_t error = ncclSuccess;
    bool aborted = false;

    std::string describe() const;
};

// On the host: the first operation that needs a connection waits for all that it connects.
ncclResult_t connect(Member& member, const Calls& calls);

// On the stream's thread: operation `number` of this member, after those before it. The messages of
// a group are under way together.
void perform(Member& member, const Calls& calls, uint64_t number);

}  // namespace nccl_emulation
