#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "parallel/activity.h"
#include "parallel/event_queue.h"
#include "parallel/operation.h"

namespace trireme {

// One rank's end of one group: its three queues, and the way to the carrier. Owned by the carrier,
// which outlives the communicator in front of it.
class Channel {
public:
    // ranks: the members by their number in the world, in group order. rank: place of this one.
    // board: of the rank that issues here; outlives the channel.
    Channel(std::string name, std::vector<int> ranks, int rank, std::chrono::milliseconds timeout,
            ActivityBoard& board);
    virtual ~Channel() = default;
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    const std::string& name() const { return name_; }
    int rank() const { return rank_; }
    int size() const { return static_cast<int>(ranks_.size()); }
    int world_rank(int member) const { return ranks_[static_cast<size_t>(member)]; }

    Event issue(Operation operation);
    // The carrier: the operation is complete.
    void finish(const Operation& operation);
    EventQueue& events_of(OperationKind kind);
    void fail(const Error& error);
    void put_waits_down_to(WaitAccount& account);

protected:
    // Hands an operation to the carrier. Does not block.
    virtual void submit(const Operation& operation) = 0;
    // Who keeps this operation waiting, as far as the carrier knows: "ranks 1, 3 have not arrived".
    virtual std::string who_is_missing(OperationKind queue, uint64_t ticket) = 0;
    // Asks the carrier to fail all operations of the run. Any thread; does not block.
    virtual void give_up(const Error& error) = 0;

    // "group 'data' (ranks 0, 2)"
    std::string describe_group() const;

private:
    void time_out(OperationKind queue, uint64_t ticket, const char* label);

    const std::string name_;
    const std::vector<int> ranks_;
    const int rank_;
    const std::chrono::milliseconds timeout_;
    ActivityBoard& board_;
    ActivityGroup* const activity_;
    EventQueue collectives_, sends_, receives_;
};

}  // namespace trireme
