#include "parallel/operation.h"

#include <cstring>

namespace trireme {

const char* name_of(OperationKind kind) {
    switch (kind) {
        case OperationKind::all_reduce:
            return "all_reduce";
        case OperationKind::all_gather:
            return "all_gather";
        case OperationKind::reduce_scatter:
            return "reduce_scatter";
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
