#include "parallel/queued_communicator.h"

namespace trireme {

Event QueuedCommunicator::all_reduce(Stream& after, const Tensor& buffer, ReduceOp op,
                                     const char* label) {
    return issue(after, all_reduce_of(buffer, op, label));
}

Event QueuedCommunicator::all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                                     const char* label) {
    return issue(after, all_gather_of(shard, whole, size(), label));
}

Event QueuedCommunicator::reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                                         const char* label) {
    return issue(after, reduce_scatter_of(whole, shard, size(), label));
}

Event QueuedCommunicator::all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                                     const char* label) {
    return issue(after, all_to_all_of(from, to, size(), label));
}

Event QueuedCommunicator::broadcast(Stream& after, const Tensor& buffer, int root,
                                    const char* label) {
    return issue(after, broadcast_of(buffer, root, size(), label));
}

Event QueuedCommunicator::send(Stream& after, const Tensor& buffer, int peer, const char* label) {
    return issue(after, send_of(buffer, peer, rank(), size(), label));
}

Event QueuedCommunicator::recv(Stream& after, const Tensor& buffer, int peer, const char* label) {
    return issue(after, recv_of(buffer, peer, rank(), size(), label));
}

void QueuedCommunicator::barrier() {
    const Event arrived = channel_.issue({.kind = OperationKind::barrier, .label = "barrier"});
    arrived.source->host_wait(arrived.ticket);
}

Event QueuedCommunicator::issue(Stream& after, const Operation& operation) {
    after.synchronize();
    return channel_.issue(operation);
}

}  // namespace trireme
