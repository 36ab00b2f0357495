#pragma once

#include <memory>
#include <vector>

#include "core/arena.h"
#include "core/device.h"
#include "parallel/communicator.h"
#include "parallel/schedule.h"
#include "parallel/stage_executor.h"

namespace trireme {

// Walks one rank's program. Receives are posted as far ahead as the plan says, sends never block
// compute (a result buffer is used again two sends later), activations and gradients travel on
// their own queues. Buffers are taken once; nothing is allocated after construction.
//
// A run left by an exception leaves transfers in flight that may still write into the buffers: end
// the ranks (World::abort) before the object is destroyed. Its destructor waits for no neighbour
// then, so that an error cannot turn into a hang.
class PipelineRuntime {
public:
    // boundary: shape and type of what travels between stages (the same everywhere). Rank r of
    // either communicator is stage r. The program must have passed find_schedule_error. Device and
    // communicators must outlive this.
    PipelineRuntime(Device& device, Communicator& activations, Communicator& gradients,
                    const ScheduleProgram& program, DType boundary_type, Shape boundary);
    ~PipelineRuntime();
    PipelineRuntime(const PipelineRuntime&) = delete;
    PipelineRuntime& operator=(const PipelineRuntime&) = delete;

    int slots(int chunk) const;  // the most micro-batches that the chunk holds at once
    int slots() const;           // the largest of these
    const Arena& arena() const;  // the buffers between stages
    // The actions of a step, each kind once for each chunk; or the forward ones of these.
    std::vector<Action> rehearsal(bool with_backward) const;
    // Performs those on micro-batch 0 in slot 0, on whatever its buffers hold, and talks to nobody.
    // What a device does at first uses (loading kernels, taking memory, measuring) may wait for all
    // that it has been given; in a step there are receives among it, posted ahead, whose senders
    // may wait in the same way.
    void rehearse(StageExecutor& executor, bool with_backward);
    // One step: all micro-batches. Returns when all is enqueued on the compute stream; blocks on
    // communication only where compute needs it.
    void run(StageExecutor& executor);
    // Forward only, micro-batch by micro-batch (evaluation, generation), all in slot 0.
    void run_forward(StageExecutor& executor, int micro_batches);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace trireme
