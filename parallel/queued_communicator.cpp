#include "parallel/queued_communicator.h"

#include "core/error.h"
#include "parallel/rank_order_reduce.h"

namespace trireme {

namespace {

void check_memory(const Tensor& tensor) {
    TRIREME_CHECK(tensor.data || tensor.bytes() == 0, "a buffer with memory to communicate");
}

void check_parts(const Tensor& whole, const Tensor& shard, int size) {
    check_memory(whole);
    check_memory(shard);
    TRIREME_CHECK(whole.dtype == shard.dtype, "shard and whole of the same element type");
    TRIREME_CHECK(whole.elements() == shard.elements() * size,
                  "the whole to be one shard a member of the group");
}

}  // namespace

Event QueuedCommunicator::all_reduce(Stream& after, const Tensor& buffer, ReduceOp op,
                                     const char* label) {
    check_memory(buffer);
    TRIREME_CHECK(can_reduce(buffer.dtype, op), "an element type this reduction is made for");
    after.synchronize();
    return channel_.issue({.kind = OperationKind::all_reduce,
                           .reduce = op,
                           .dtype = buffer.dtype,
                           .elements = buffer.elements(),
                           .output = buffer.data,
                           .label = label});
}

Event QueuedCommunicator::all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                                     const char* label) {
    check_parts(whole, shard, size());
    after.synchronize();
    return channel_.issue({.kind = OperationKind::all_gather,
                           .dtype = shard.dtype,
                           .elements = shard.elements(),
                           .input = shard.data,
                           .output = whole.data,
                           .label = label});
}

Event QueuedCommunicator::reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                                         const char* label) {
    check_parts(whole, shard, size());
    TRIREME_CHECK(can_reduce(whole.dtype, ReduceOp::sum),
                  "an element type this reduction is made for");
    after.synchronize();
    return channel_.issue({.kind = OperationKind::reduce_scatter,
                           .dtype = shard.dtype,
                           .elements = shard.elements(),
                           .input = whole.data,
                           .output = shard.data,
                           .label = label});
}

Event QueuedCommunicator::broadcast(Stream& after, const Tensor& buffer, int root,
                                    const char* label) {
    check_memory(buffer);
    TRIREME_CHECK(root >= 0 && root < size(), "the root to be a member of the group");
    after.synchronize();
    return channel_.issue({.kind = OperationKind::broadcast,
                           .dtype = buffer.dtype,
                           .peer = root,
                           .elements = buffer.elements(),
                           .output = buffer.data,
                           .label = label});
}

Event QueuedCommunicator::send(Stream& after, const Tensor& buffer, int peer, const char* label) {
    check_memory(buffer);
    TRIREME_CHECK(peer >= 0 && peer < size() && peer != rank(),
                  "the receiver to be another member of the group");
    after.synchronize();
    return channel_.issue({.kind = OperationKind::send,
                           .dtype = buffer.dtype,
                           .peer = peer,
                           .elements = buffer.elements(),
                           .input = buffer.data,
                           .label = label});
}

Event QueuedCommunicator::recv(Stream& after, const Tensor& buffer, int peer, const char* label) {
    check_memory(buffer);
    TRIREME_CHECK(peer >= 0 && peer < size() && peer != rank(),
                  "the sender to be another member of the group");
    after.synchronize();
    return channel_.issue({.kind = OperationKind::recv,
                           .dtype = buffer.dtype,
                           .peer = peer,
                           .elements = buffer.elements(),
                           .output = buffer.data,
                           .label = label});
}

void QueuedCommunicator::barrier() {
    const Event arrived = channel_.issue({.kind = OperationKind::barrier, .label = "barrier"});
    arrived.source->host_wait(arrived.ticket);
}

}  // namespace trireme
