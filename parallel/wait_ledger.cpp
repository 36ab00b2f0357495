#include "parallel/wait_ledger.h"

namespace trireme {

MeshAxis axis_of(const std::string& communicator) {
    if (communicator.starts_with("tensor")) return MeshAxis::tensor;
    if (communicator == "context") return MeshAxis::context;
    if (communicator.starts_with("data")) return MeshAxis::data;
    if (communicator.starts_with("pipeline") || communicator == "embedding") {
        return MeshAxis::pipeline;
    }
    return MeshAxis::all;
}

const char* name_of(MeshAxis axis) {
    switch (axis) {
        case MeshAxis::tensor:
            return "tensor";
        case MeshAxis::context:
            return "context";
        case MeshAxis::data:
            return "data";
        case MeshAxis::pipeline:
            return "pipeline";
        case MeshAxis::all:
            break;
    }
    return "all";
}

AxisSeconds& AxisSeconds::operator+=(const AxisSeconds& other) {
    tensor += other.tensor;
    context += other.context;
    data += other.data;
    pipeline += other.pipeline;
    return *this;
}

WaitLedger::WaitLedger() {
    of(MeshAxis::tensor).name = "wait for tensor";
    of(MeshAxis::context).name = "wait for context";
    of(MeshAxis::data).name = "wait for data";
    of(MeshAxis::pipeline).name = "wait for pipeline";
    of(MeshAxis::all).name = "wait for all";
}

AxisSeconds WaitLedger::seconds() const {
    const auto of = [&](MeshAxis axis) { return accounts_[static_cast<size_t>(axis)].seconds; };
    return {of(MeshAxis::tensor), of(MeshAxis::context), of(MeshAxis::data),
            of(MeshAxis::pipeline)};
}

void WaitLedger::reset() {
    for (WaitAccount& account : accounts_) account.seconds = 0.0;
}

void WaitLedger::set_trace(Trace* trace) {
    for (WaitAccount& account : accounts_) account.trace = trace;
}

}  // namespace trireme
