#include "parallel/self_communicator.h"

#include <cstdlib>

#include "core/error.h"

namespace trireme {

namespace {

void copy_if_elsewhere(Stream& after, const Tensor& from, const Tensor& to) {
    TRIREME_CHECK(from.dtype == to.dtype && from.elements() == to.elements(),
                  "both buffers of a group of one to be alike");
    if (from.data == to.data || from.bytes() == 0) return;
    after.copy(to.data, from.data, from.bytes());
}

}  // namespace

Event SelfCommunicator::all_reduce(Stream&, const Tensor&, ReduceOp, const char*) {
    return {};
}

Event SelfCommunicator::all_gather(Stream& after, const Tensor& shard, const Tensor& whole,
                                   const char*) {
    copy_if_elsewhere(after, shard, whole);
    return {};
}

Event SelfCommunicator::reduce_scatter(Stream& after, const Tensor& whole, const Tensor& shard,
                                       const char*) {
    copy_if_elsewhere(after, whole, shard);
    return {};
}

Event SelfCommunicator::all_to_all(Stream& after, const Tensor& from, const Tensor& to,
                                   const char*) {
    TRIREME_CHECK(from.data != to.data || !from.data || from.bytes() == 0, "two different buffers");
    copy_if_elsewhere(after, from, to);
    return {};
}

Event SelfCommunicator::broadcast(Stream&, const Tensor&, int root, const char*) {
    TRIREME_CHECK(root == 0, "the root to be a member of the group");
    return {};
}

Event SelfCommunicator::send(Stream&, const Tensor&, int, const char*) {
    throw InternalError("send in group '" + name_ + "', which has one member only");
}

Event SelfCommunicator::recv(Stream&, const Tensor&, int, const char*) {
    throw InternalError("recv in group '" + name_ + "', which has one member only");
}

std::unique_ptr<Communicator> SelfWorld::split(int color, int, const std::string& name, GroupUse) {
    if (color < 0) return nullptr;
    return std::make_unique<SelfCommunicator>(name);
}

void SelfWorld::abort(int exit_code) {
    std::_Exit(exit_code);
}

}  // namespace trireme
