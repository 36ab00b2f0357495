#include "parallel/operation.h"

#include <cstring>

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

void check_reduction(DType type, ReduceOp op) {
    TRIREME_CHECK(can_reduce(type, op), "an element type this reduction is made for");
}

bool is_other_member(int peer, int rank, int size) {
    return peer >= 0 && peer < size && peer != rank;
}

}  // namespace

Operation all_reduce_of(const Tensor& buffer, ReduceOp op, const char* label) {
    check_memory(buffer);
    check_reduction(buffer.dtype, op);
    return {.kind = OperationKind::all_reduce,
            .reduce = op,
            .dtype = buffer.dtype,
            .elements = buffer.elements(),
            .output = buffer.data,
            .label = label};
}

Operation all_gather_of(const Tensor& shard, const Tensor& whole, int size, const char* label) {
    check_parts(whole, shard, size);
    return {.kind = OperationKind::all_gather,
            .dtype = shard.dtype,
            .elements = shard.elements(),
            .input = shard.data,
            .output = whole.data,
            .label = label};
}

Operation reduce_scatter_of(const Tensor& whole, const Tensor& shard, int size,
                            const char* label) {
    check_parts(whole, shard, size);
    check_reduction(whole.dtype, ReduceOp::sum);
    return {.kind = OperationKind::reduce_scatter,
            .dtype = shard.dtype,
            .elements = shard.elements(),
            .input = whole.data,
            .output = shard.data,
            .label = label};
}

Operation all_to_all_of(const Tensor& from, const Tensor& to, int size, const char* label) {
    check_memory(from);
    check_memory(to);
    TRIREME_CHECK(from.dtype == to.dtype, "both buffers of the same element type");
    TRIREME_CHECK(from.elements() == to.elements(), "both buffers of the same size");
    TRIREME_CHECK(from.elements() % size == 0, "equal blocks, one a member of the group");
    TRIREME_CHECK(from.data != to.data || from.bytes() == 0, "two different buffers");
    return {.kind = OperationKind::all_to_all,
            .dtype = from.dtype,
            .elements = from.elements() / size,
            .input = from.data,
            .output = to.data,
            .label = label};
}

Operation broadcast_of(const Tensor& buffer, int root, int size, const char* label) {
    check_memory(buffer);
    TRIREME_CHECK(root >= 0 && root < size, "the root to be a member of the group");
    return {.kind = OperationKind::broadcast,
            .dtype = buffer.dtype,
            .peer = root,
            .elements = buffer.elements(),
            .output = buffer.data,
            .label = label};
}

Operation send_of(const Tensor& buffer, int peer, int rank, int size, const char* label) {
    check_memory(buffer);
    TRIREME_CHECK(is_other_member(peer, rank, size), "the receiver to be another member");
    return {.kind = OperationKind::send,
            .dtype = buffer.dtype,
            .peer = peer,
            .elements = buffer.elements(),
            .input = buffer.data,
            .label = label};
}

Operation recv_of(const Tensor& buffer, int peer, int rank, int size, const char* label) {
    check_memory(buffer);
    TRIREME_CHECK(is_other_member(peer, rank, size), "the sender to be another member");
    return {.kind = OperationKind::recv,
            .dtype = buffer.dtype,
            .peer = peer,
            .elements = buffer.elements(),
            .output = buffer.data,
            .label = label};
}

const char* name_of(OperationKind kind) {
    switch (kind) {
        case OperationKind::all_reduce:
            return "all_reduce";
        case OperationKind::all_gather:
            return "all_gather";
        case OperationKind::reduce_scatter:
            return "reduce_scatter";
        case OperationKind::all_to_all:
            return "all_to_all";
        case OperationKind::broadcast:
            return "broadcast";
        case OperationKind::barrier:
            return "barrier";
        case OperationKind::send:
            return "send";
        case OperationKind::recv:
            return "recv";
    }
    return "";
}

std::string describe(const Operation& operation) {
    std::string text = name_of(operation.kind);
    if (operation.kind == OperationKind::barrier) return text;
    if (operation.kind == OperationKind::all_reduce) {
        text += operation.reduce == ReduceOp::sum ? " sum" : " max";
    }
    text +=
        " of " + std::to_string(operation.elements) + " " + std::string(name_of(operation.dtype));
    if (operation.kind == OperationKind::broadcast) {
        text += " from member " + std::to_string(operation.peer);
    }
    return text + " '" + operation.label + "'";
}

bool same_collective(const Operation& a, const Operation& b) {
    return a.kind == b.kind && a.reduce == b.reduce && a.dtype == b.dtype && a.peer == b.peer &&
           a.elements == b.elements && std::strcmp(a.label, b.label) == 0;
}

}  // namespace trireme
