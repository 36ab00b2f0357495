#include "parallel/nccl/nccl_communicator.h"

#include <utility>

#include "core/error.h"

namespace trireme {

namespace {

constexpr int kNoLane = -1;

// Lanes of the edges of one direction round a ring.
int lanes_of_direction(int size) {
    return size % 2 == 0 ? 2 : 3;
}

// Of edge r -> r + 1.
int lane_of_edge(int r, int size) {
    const bool closes_odd_ring = size % 2 == 1 && r == size - 1;
    return closes_odd_ring ? 2 : r % 2;
}

int lane_between(int from, int to, int size) {
    if (to == (from + 1) % size) return lane_of_edge(from, size);
    if (from == (to + 1) % size) return lanes_of_direction(size) + lane_of_edge(to, size);
    return kNoLane;
}

// Compute waits at once for everything but gradients, which travel behind it.
CudaStream::Priority priority_of(const NcclGroup& group) {
    return group.name == "data" ? CudaStream::Priority::normal : CudaStream::Priority::high;
}

}  // namespace

int NcclCommunicator::queues_of(GroupUse use, int size) {
    if (use == GroupUse::collectives) return 1;
    return size == 2 ? 2 : 2 * lanes_of_direction(size);
}

NcclCommunicator::NcclCommunicator(NcclRun& run, NcclGroup group, GroupUse use,
                                   const std::vector<ncclUniqueId>& ids)
    : run_(run), group_(std::move(group)), use_(use) {
    for (const ncclUniqueId& id : ids) {
        queues_.push_back(std::make_unique<NcclQueue>(run_, group_, priority_of(group_)));
        queues_.back()->open(id);
    }
    if (use_ == GroupUse::collectives) {
        collectives().connect(small_all_reduce());
        return;
    }
    for (size_t i = 0; i < queues_.size(); ++i) {
        const int lane = static_cast<int>(i);
        for (const int peer : {(rank() + 1) % size(), (rank() + size() - 1) % size()}) {
            const Tensor byte(run_.small_memory(), DType::u8, {1});
            if (lane_between(rank(), peer, size()) == lane) {
                queues_[i]->connect(send_of(byte, peer, rank(), size(), "connecting"));
                break;
            }
            if (lane_between(peer, rank(), size()) == lane) {
                queues_[i]->connect(recv_of(byte, peer, rank(), size(), "connecting"));
                break;
            }
        }
    }
}

Event NcclCommunicator::all_reduce(Stream& after, const Tensor& buffer, ReduceOp op,
                                   const char* label) {
    return collectives().issue(&after, all_reduce_of(buffer, op, label));
}

Event NcclCommunicator::all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                                   const char* label) {
    return collectives().issue(&after, all_gather_of(shard, whole, size(), label));
}

Event NcclCommunicator::reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                                       const char* label) {
    return collectives().issue(&after, reduce_scatter_of(whole, shard, size(), label));
}

Event NcclCommunicator::all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                                   const char* label) {
    return collectives().issue(&after, all_to_all_of(from, to, size(), label));
}

Event NcclCommunicator::broadcast(Stream& after, const Tensor& buffer, int root,
                                  const char* label) {
    return collectives().issue(&after, broadcast_of(buffer, root, size(), label));
}

Event NcclCommunicator::send(Stream& after, const Tensor& buffer, int peer, const char* label) {
    const Operation operation = send_of(buffer, peer, rank(), size(), label);
    return lane(rank(), peer).issue(&after, operation);
}

Event NcclCommunicator::recv(Stream& after, const Tensor& buffer, int peer, const char* label) {
    const Operation operation = recv_of(buffer, peer, rank(), size(), label);
    return lane(peer, rank()).issue(&after, operation);
}

void NcclCommunicator::barrier() {
    const Event arrived = collectives().issue(nullptr, small_all_reduce());
    arrived.source->host_wait(arrived.ticket);
}

void NcclCommunicator::put_waits_down_to(WaitAccount& account) {
    for (auto& queue : queues_) queue->put_waits_down_to(&account);
}

void NcclCommunicator::register_memory(const Tensor& memory) {
    for (auto& queue : queues_) queue->register_memory(memory);
}

NcclQueue& NcclCommunicator::collectives() {
    if (use_ == GroupUse::collectives) return *queues_[0];
    throw InternalError("a collective in " + group_.describe() +
                        ", which was made for messages between neighbours");
}

NcclQueue& NcclCommunicator::lane(int from, int to) {
    if (use_ != GroupUse::neighbours) {
        throw InternalError("a message in " + group_.describe() +
                            ", which was made for collectives");
    }
    const int lane = lane_between(from, to, size());
    if (lane == kNoLane) {
        throw InternalError("a message from member " + std::to_string(from) + " to member " +
                            std::to_string(to) + " of " + group_.describe() +
                            ", which are no neighbours");
    }
    return *queues_[static_cast<size_t>(lane)];
}

Operation NcclCommunicator::small_all_reduce() const {
    return all_reduce_of(Tensor(run_.small_memory(), DType::f32, {1}), ReduceOp::sum, "barrier");
}

}  // namespace trireme
