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
    neighbours += other.neighbours;
    return *this;
}

WaitLedger::WaitLedger() {
    of("tensor").name = "wait for tensor";
    of("context").name = "wait for context";
    of("data").name = "wait for data";
    of("pipeline").name = "wait for pipeline";
    of("embedding").name = "wait for pipeline";
    of("all").name = "wait for all";
}

WaitAccount& WaitLedger::of(const std::string& communicator) {
    if (communicator == "embedding") return accounts_[kEmbedding];
    return accounts_[static_cast<size_t>(axis_of(communicator))];
}

AxisSeconds WaitLedger::seconds() const {
    const auto of = [&](MeshAxis axis) { return accounts_[static_cast<size_t>(axis)].seconds; };
    const double neighbours = of(MeshAxis::pipeline);
    return {.tensor = of(MeshAxis::tensor),
            .context = of(MeshAxis::context),
            .data = of(MeshAxis::data),
            .pipeline = neighbours + accounts_[kEmbedding].seconds,
            .neighbours = neighbours};
}

void WaitLedger::reset() {
    for (WaitAccount& account : accounts_) account.seconds = 0.0;
}

void WaitLedger::set_trace(Trace* trace) {
    for (WaitAccount& account : accounts_) account.trace = trace;
}

}  // namespace trireme
