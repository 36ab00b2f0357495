#pragma once

#include "core/tensor.h"
#include "parallel/schedule.h"

namespace trireme {

// An action with the memory it works on. What lies at the model's ends is absent: the first virtual
// stage has no input and no gradient of it, the last neither output nor output gradient.
struct StageAction {
    Action action;
    // Each live micro-batch of a chunk has a number in [0, slots of the chunk), which is used again
    // once its backward is complete.
    int slot = 0;
    // The stage before's activation. It stays untouched until the slot's backward is done.
    Tensor input = {};
    // To fill for a neighbour: forward's output, or the gradient of the input. Not to be used once
    // the action has been performed.
    Tensor result = {};
    // From the next stage, where the action passes on a gradient. May be overwritten, and is not to
    // be used afterwards.
    Tensor output_gradient = {};
    // No later action of this chunk in this step adds gradients of parameters.
    bool last = false;
};

// What the pipeline asks of a model stage. Implemented by the model.
class StageExecutor {
public:
    virtual ~StageExecutor() = default;

    // Enqueues the action on the device's compute stream. backward_input keeps in the slot what
    // backward_weight, which follows later, needs of it.
    virtual void perform(const StageAction& work) = 0;
};

}  // namespace trireme
