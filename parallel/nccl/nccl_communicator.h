#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/nccl/nccl_queue.h"

namespace trireme {

// A group over NCCL. Operations go to streams of its own: collectives to one; messages to a lane
// for each neighbour and direction.
//
// NCCL performs the operations of one of its communicators one after the other on each member, so
// that a receive which waits for its sender holds up all that was issued after it. A lane is a
// communicator on which every member is the sender or the receiver of one edge at most. Edges
// r -> r + 1 use two lanes by the parity of r; in an odd ring the edge from the last member to the
// first has a third. Edges r -> r - 1 mirror them, on other lanes where there are more than two
// members.
//
// NCCL connects the members by what a collective's kind and size need when it first meets them, on
// the host: such first calls block until all members have made them. So collectives of several
// groups must be issued in orders that could be blocking for a first time. Messages never block:
// lanes are connected when the group is made.
class NcclCommunicator final : public Communicator {
public:
    // ids: queues_of(use, size) of them, the same for all members. Collective over the group.
    NcclCommunicator(NcclRun& run, NcclGroup group, GroupUse use,
                     const std::vector<ncclUniqueId>& ids);

    // How many NCCL communicators a group of this size has.
    static int queues_of(GroupUse use, int size);

    int rank() const override { return group_.rank; }
    int size() const override { return group_.size(); }
    const std::string& name() const override { return group_.name; }

    Event all_reduce(Stream& after, const Tensor& buffer, ReduceOp op, const char* label) override;
    Event all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                     const char* label) override;
    Event reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                         const char* label) override;
    Event all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                     const char* label) override;
    Event broadcast(Stream& after, const Tensor& buffer, int root, const char* label) override;
    Event send(Stream& after, const Tensor& buffer, int peer, const char* label) override;
    Event recv(Stream& after, const Tensor& buffer, int peer, const char* label) override;
    void barrier() override;
    void register_memory(const Tensor& memory) override;
    void put_waits_down_to(WaitAccount& account) override;

private:
    NcclQueue& collectives();
    NcclQueue& lane(int from, int to);
    Operation small_all_reduce() const;

    NcclRun& run_;
    const NcclGroup group_;
    const GroupUse use_;
    std::vector<std::unique_ptr<NcclQueue>> queues_;  // the collectives' one, or the lanes
};

}  // namespace trireme
