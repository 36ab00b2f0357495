#pragma once

#include "parallel/schedule.h"

namespace trireme {

// The schedules behind make_schedule, which has checked that there is at least one stage and one
// micro-batch, and that the number of chunks is one that the schedule runs.

ScheduleProgram gpipe_schedule(int stages, int micro_batches);
// extra_warmup: micro-batches more in flight for each later stage.
ScheduleProgram one_forward_one_backward(int stages, int micro_batches, int extra_warmup = 0);

// group: micro-batches before the next chunk; 0: as many as stages. Throws Error (config).
ScheduleProgram interleaved_schedule(int stages, int chunks, int micro_batches, int group);

ScheduleProgram zero_bubble_h1(int stages, int micro_batches);
ScheduleProgram zero_bubble_h2(int stages, int micro_batches);
ScheduleProgram zero_bubble_v(int stages, int micro_batches);

// memory_cap: most live activations on a rank; 0: as many as stages. Throws Error (config).
ScheduleProgram search_schedule(int stages, int micro_batches, const StageCosts& costs,
                                int memory_cap);

// Appends the actions of one rank, micro-batches of each kind and chunk in order.
class ActionList {
public:
    ActionList(std::vector<Action>& actions, int chunks, int micro_batches)
        : actions_(actions), micro_batches_(micro_batches), done_(static_cast<size_t>(chunks)) {}

    // The next micro-batch's; false when there is none left.
    bool add(ActionKind kind, int chunk = 0) {
        int& next = done(kind, chunk);
        if (next == micro_batches_) return false;
        actions_.push_back({kind, chunk, next++});
        return true;
    }
    int count(ActionKind kind, int chunk = 0) const {
        return done_[static_cast<size_t>(chunk)].of_kind[static_cast<size_t>(kind)];
    }
    bool all(ActionKind kind, int chunk = 0) const { return count(kind, chunk) == micro_batches_; }

private:
    struct Done {
        int of_kind[4] = {0, 0, 0, 0};
    };
    int& done(ActionKind kind, int chunk) {
        return done_[static_cast<size_t>(chunk)].of_kind[static_cast<size_t>(kind)];
    }

    std::vector<Action>& actions_;
    int micro_batches_;
    std::vector<Done> done_;
};

}  // namespace trireme
