#pragma once

#include "core/trace.h"
#include "parallel/activity.h"
#include "parallel/pipeline_runtime.h"

namespace trireme {

// Records every action of another executor, numbered by micro-batch: as a span of a trace, and on
// the rank's activity board. On a back end that
// computes asynchronously the spans show when work was enqueued.
class TracedExecutor final : public StageExecutor {
public:
    // All must outlive this; trace may be null.
    TracedExecutor(StageExecutor& executor, Trace* trace, ActivityBoard& activity)
        : executor_(executor), trace_(trace), activity_(activity) {}

    void forward(int chunk, int micro_batch, int slot, const Tensor& input,
                 const Tensor& output) override {
        const TraceSpan span(trace_, "forward", "pipeline", micro_batch);
        activity_.act("forward of micro-batch", micro_batch);
        executor_.forward(chunk, micro_batch, slot, input, output);
    }
    void backward(int chunk, int micro_batch, int slot, const Tensor& input,
                  const Tensor& output_gradient, const Tensor& input_gradient, bool with_weights,
                  bool last) override {
        const TraceSpan span(trace_, with_weights ? "backward" : "backward input", "pipeline",
                             micro_batch);
        activity_.act(with_weights ? "backward of micro-batch" : "backward input of micro-batch",
                      micro_batch);
        executor_.backward(chunk, micro_batch, slot, input, output_gradient, input_gradient,
                           with_weights, last);
    }
    void backward_weight(int chunk, int micro_batch, int slot, const Tensor& input,
                         bool last) override {
        const TraceSpan span(trace_, "backward weight", "pipeline", micro_batch);
        activity_.act("backward weight of micro-batch", micro_batch);
        executor_.backward_weight(chunk, micro_batch, slot, input, last);
    }

private:
    StageExecutor& executor_;
    Trace* trace_;
    ActivityBoard& activity_;
};

}  // namespace trireme
