#pragma once

#include <array>
#include <vector>

#include "parallel/schedule.h"

namespace trireme {

// One rank's program with everything decided that can be decided before the run: slots, which
// buffer holds what, when each receive is posted. Pure data: the runtime only follows it, and
// memory is known before anything is allocated.
struct RankPlan {
    static constexpr int kNone = -1;  // no buffer, no rank

    struct Receive {
        MessageKind kind = MessageKind::activation;
        int buffer = kNone;
        int peer = kNone;
    };

    struct Step {
        Action action;
        int slot = 0;       // of the chunk
        bool last = false;  // no later step of the chunk adds gradients of parameters
        // Buffers: the chunk's input; the gradient of its output (backward); and what the step
        // makes, an output or an input gradient.
        int input = kNone;
        int output_gradient = kNone;
        int result = kNone;
        int receives_from = kNone;  // rank that sends the output gradient, or a forward's input
        int sends_to = kNone;       // rank that gets the result
        // receives[first_receive .. + n_receives) are posted before the step.
        int first_receive = 0;
        int n_receives = 0;
    };

    std::vector<Step> steps;
    std::vector<Receive> receives;
    std::vector<int> slots;  // of each chunk: the most micro-batches it holds at once
    int buffers = 0;

    // For a pass without backward, whatever number of micro-batches it has: two buffers each to
    // receive into, to send from and to hand over on the rank. Filled where there is such a link.
    std::array<int, 2> forward_in{kNone, kNone};
    std::array<int, 2> forward_out{kNone, kNone};
    std::array<int, 2> forward_local{kNone, kNone};
};

// Before each step receives are posted for what it needs and program.receives_ahead() things more
// of either kind. A result that is sent leaves from one of two buffers in turn, for each kind and
// neighbour, so the step must first wait for the send before the last one on that link. The program
// must have passed find_schedule_error.
RankPlan plan_rank(const ScheduleProgram& program, int rank);

}  // namespace trireme
