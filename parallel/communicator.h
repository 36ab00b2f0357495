#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/stream.h"
#include "core/tensor.h"

namespace trireme {

class ActivityBoard;

enum class ReduceOp { sum, max };

// How long an operation between processes may wait for the others before it fails by itself. The
// watchdog speaks long before; this is what is left where it cannot.
inline constexpr std::chrono::seconds kCommunicationTimeout = std::chrono::hours(1);

// A group of ranks that communicate. All calls return at once; the returned event completes when
// the operation has. `after`: the operation starts once the compute enqueued so far on this
// stream is done. Buffers must stay untouched (outputs unread) until the event is complete.
//
// Order. Three in-order queues: collectives, sends, receives. Every member of the group issues the
// same sequence of collectives; sends and receives between two members match in order, and those
// with one member do not wait for those with another. Queues do not wait for one another either.
// Operations on groups of size one cost nothing.
//
// Reductions: sum for f32, bf16 (added in f32; on GPUs rounded after each addition), f64; max for
// f32, f64. Every member receives the same bits.
//
// Errors of the carrier surface as Error from waiting on an event or from the next call.
// `label` must be a string with static lifetime: it names the operation in traces and errors.
class Communicator {
public:
    virtual ~Communicator() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual const std::string& name() const = 0;  // the mesh axis

    virtual Event all_reduce(Stream& after, const Tensor& buffer, ReduceOp op,
                             const char* label) = 0;
    // whole = shards of all members in rank order. shard may be its own part of whole.
    virtual Event all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                             const char* label) = 0;
    // shard = this rank's part of the sum of all members' whole. shard may be its own part of
    // whole; nothing else of whole changes.
    virtual Event reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                                 const char* label) = 0;
    // Block i of `from` goes to member i, block i of `to` comes from member i; blocks are equal.
    // Two different tensors.
    virtual Event all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                             const char* label) = 0;
    virtual Event broadcast(Stream& after, const Tensor& buffer, int root, const char* label) = 0;
    virtual Event send(Stream& after, const Tensor& buffer, int peer, const char* label) = 0;
    virtual Event recv(Stream& after, const Tensor& buffer, int peer, const char* label) = 0;

    // Blocks until every member has arrived.
    virtual void barrier() = 0;

    // A hint that operations will use this memory again and again, for carriers that can prepare
    // it. Not collective, and yet all members do alike: an operation finds registered memory on all
    // of them or on none, for its input as for its output, and what a collective uses begins as far
    // into it everywhere. So it is whole arenas that are registered, by those who communicate with
    // them, when they are made. Memory that lies in what is registered already is left alone; an
    // absent tensor too. Forgotten when the memory is given back to its device or the group ends,
    // whichever is first, after the operations under way. From the thread that issues operations.
    virtual void register_memory(const Tensor&) {}

    // Puts every wait of a stream for this rank's operations down to the account.
    virtual void put_waits_down_to(WaitAccount&) {}
};

// What a group is made for. Carriers for which either costs something make only this.
enum class GroupUse {
    collectives,
    neighbours,  // sends and receives between members whose ranks differ by one, the ends included
};

// All ranks of the run and the way to make groups of them.
class World {
public:
    virtual ~World() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual int local_rank() const = 0;  // among the ranks on this host
    virtual int local_size() const = 0;

    // Ranks with the same color form a group, ordered by key, then by rank. Collective over the
    // world and blocking: every rank makes the same sequence of splits. A negative color: this
    // rank is in no group and gets null. Members also destroy their groups in the same order.
    virtual std::unique_ptr<Communicator> split(int color, int key, const std::string& name,
                                                GroupUse use = GroupUse::collectives) = 0;

    // Ends every rank of the run with this code. Does not return.
    [[noreturn]] virtual void abort(int exit_code) = 0;

    // Where this rank's doings are written down, its communicators' among them.
    virtual ActivityBoard& activity() = 0;
};

// This process as one rank of the job a launcher started (mpirun, srun), or the only rank of a
// world of one when there is no launcher. One object a process.
std::unique_ptr<World> make_process_world();

// Runs `body` once a rank, ranks as threads of this process; for tests, and for ThreadSanitizer.
// Waits for all and rethrows the first rank's exception; the others' waits then fail as well, so
// that none hangs.
void run_thread_ranks(int n_ranks, const std::function<void(World&)>& body);

}  // namespace trireme
