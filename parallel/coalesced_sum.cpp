#include "parallel/coalesced_sum.h"

namespace trireme {

int64_t coalesced_elements(std::span<const Tensor> parts) {
    if (parts.size() < 2) return 0;
    int64_t n = 0;
    for (const Tensor& part : parts) n += part.elements();
    return n;
}

void sum_coalesced(Device& device, Communicator& group, std::span<const Tensor> parts,
                   const Tensor& scratch, const char* label) {
    if (parts.empty()) return;
    Stream& stream = device.compute();
    if (parts.size() == 1) {
        stream.wait(group.all_reduce(stream, parts.front(), ReduceOp::sum, label));
        return;
    }
    int64_t at = 0;
    for (const Tensor& part : parts) {
        device.ops().copy(stream, part, scratch.flat_range(at, part.elements()));
        at += part.elements();
    }
    const Tensor all = scratch.flat_range(0, at);
    stream.wait(group.all_reduce(stream, all, ReduceOp::sum, label));
    at = 0;
    for (const Tensor& part : parts) {
        device.ops().copy(stream, scratch.flat_range(at, part.elements()), part);
        at += part.elements();
    }
}

}  // namespace trireme
