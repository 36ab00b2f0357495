#include "parallel/traced_executor.h"

namespace trireme {

namespace {

// Of a kind of action, in a trace and in what a rank says that it is doing.
struct Names {
    const char* span;
    const char* activity;
};

Names names_of(ActionKind kind) {
    switch (kind) {
        case ActionKind::forward:
            return {"forward", "forward of micro-batch"};
        case ActionKind::backward:
            return {"backward", "backward of micro-batch"};
        case ActionKind::backward_input:
            return {"backward input", "backward input of micro-batch"};
        case ActionKind::backward_weight:
            return {"backward weight", "backward weight of micro-batch"};
    }
    return {"", ""};
}

}  // namespace

void TracedExecutor::perform(const StageAction& work) {
    const Names names = names_of(work.action.kind);
    const TraceSpan span(trace_, names.span, "pipeline", work.action.micro_batch);
    activity_.act(names.activity, work.action.micro_batch);
    executor_.perform(work);
}

}  // namespace trireme
