#pragma once

#include <memory>

#include "core/arena.h"
#include "core/device.h"
#include "parallel/communicator.h"
#include "parallel/schedule.h"

namespace trireme {

// What the pipeline asks of a model stage. Implemented by the model; calls enqueue on the
// device's compute stream. Slots: each live micro-batch of a chunk has a slot number in
// [0, slots of the rank); a slot is reused once its backward is complete.
class StageExecutor {
public:
    virtual ~StageExecutor() = default;

    // input: the activation from the stage before (absent on the first virtual stage); it stays
    // untouched until the slot's backward is done. output: to fill for the next stage (absent on
    // the last virtual stage).
    virtual void forward(int chunk, int micro_batch, int slot, const Tensor& input,
                         const Tensor& output) = 0;
    // input_gradient is to be filled (absent on the first virtual stage); output_gradient comes
    // from the next stage (absent on the last) and may be overwritten. with_weights: also add the
    // weight gradients; otherwise backward_weight follows later and what it needs is to be kept in
    // the slot. last: no later action of this chunk adds gradients of parameters.
    virtual void backward(int chunk, int micro_batch, int slot, const Tensor& input,
                          const Tensor& output_gradient, const Tensor& input_gradient,
                          bool with_weights, bool last) = 0;
    virtual void backward_weight(int chunk, int micro_batch, int slot, const Tensor& input,
                                 bool last) = 0;
};

// Walks one rank's program. Receives are posted as early as their buffer is free, sends never
// block compute, activations and gradients travel on their own queues. Buffers are taken once.
class PipelineRuntime {
public:
    // boundary: shape and type of what travels between stages (the same everywhere). The program
    // must have passed find_schedule_error.
    PipelineRuntime(Device& device, Communicator& activations, Communicator& gradients,
                    ScheduleProgram program, DType boundary_type, Shape boundary);
    ~PipelineRuntime();

    int slots() const;                   // this rank's peak of live activations
    size_t buffer_bytes() const;
    // One step: all micro-batches. Blocks on communication only where compute needs it.
    void run(StageExecutor& executor);
    // Forward only, micro-batch by micro-batch (evaluation, generation), all in slot 0.
    void run_forward(StageExecutor& executor, int micro_batches);
    // Seconds of the last run in which compute waited for a neighbour.
    double idle_seconds() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace trireme
