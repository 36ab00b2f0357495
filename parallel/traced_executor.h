#pragma once

#include "core/trace.h"
#include "parallel/activity.h"
#include "parallel/stage_executor.h"

namespace trireme {

// Records every action of another executor, numbered by micro-batch: as a span of a trace, and on
// the rank's activity board. On a back end that computes asynchronously the spans show when work
// was enqueued.
class TracedExecutor final : public StageExecutor {
public:
    // All must outlive this; trace may be null.
    TracedExecutor(StageExecutor& executor, Trace* trace, ActivityBoard& activity)
        : executor_(executor), trace_(trace), activity_(activity) {}

    void perform(const StageAction& work) override;

private:
    StageExecutor& executor_;
    Trace* trace_;
    ActivityBoard& activity_;
};

}  // namespace trireme
