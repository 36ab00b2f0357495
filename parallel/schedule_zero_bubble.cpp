#include <algorithm>
#include <deque>

#include "parallel/schedule_families.h"

namespace trireme {

namespace {

constexpr ActionKind kForward = ActionKind::forward;
constexpr ActionKind kInput = ActionKind::backward_input;
constexpr ActionKind kWeight = ActionKind::backward_weight;

// After the warm-up every input half is followed by a weight half, `lag` micro-batches late, and by
// a forward. The lag puts weight halves into the cool-down, which would be idle otherwise; the
// nearer to the last rank, the longer it is.
void add_rank(ActionList actions, int warm_up, int lag) {
    for (int i = 0; i < warm_up; ++i) actions.add(kForward);
    while (actions.add(kInput)) {
        if (actions.count(kInput) - actions.count(kWeight) > lag) actions.add(kWeight);
        actions.add(kForward);
    }
    while (actions.add(kWeight)) continue;
}

// One rank of zb-v. Chunk 1 comes first in backward: the rank's part of it is nearer to the loss.
void add_rank_of_vee(ActionList actions, int stages, int rank) {
    const auto forward = [&](int chunk) { actions.add(kForward, chunk); };
    const auto both_halves = [&](int chunk) {
        actions.add(kInput, chunk);
        actions.add(kWeight, chunk);
    };
    // Warm-up: the same number of forwards, 2 * stages, on each rank.
    for (int i = 0; i < 2 * (stages - rank) - 1; ++i) forward(0);
    forward(1);
    for (int i = 0; i < rank; ++i) {
        forward(0);
        forward(1);
    }
    for (int i = 0; i < stages - 1 - rank; ++i) {
        both_halves(1);
        forward(1);
    }
    while (!actions.all(kForward, 1)) {
        both_halves(1);
        forward(0);
        both_halves(0);
        forward(1);
    }
    // Cool-down: weight halves fall behind, for the time in which no gradient comes.
    std::deque<int> late;  // chunks of the weight halves that are due
    const auto input_half = [&](int chunk) {
        if (actions.add(kInput, chunk)) late.push_back(chunk);
        if (late.size() <= static_cast<size_t>(2 * rank)) return;
        actions.add(kWeight, late.front());
        late.pop_front();
    };
    while (!actions.all(kInput, 0)) {
        input_half(1);
        input_half(0);
    }
    for (const int chunk : late) actions.add(kWeight, chunk);
}

}  // namespace

ScheduleProgram zero_bubble_h1(int stages, int micro_batches) {
    ScheduleProgram program{stages, 1, micro_batches, Placement::loop, {}};
    for (int rank = 0; rank < stages; ++rank) {
        add_rank({program.ranks.emplace_back(), 1, micro_batches}, stages - rank, rank);
    }
    return program;
}

ScheduleProgram zero_bubble_h2(int stages, int micro_batches) {
    ScheduleProgram program{stages, 1, micro_batches, Placement::loop, {}};
    for (int rank = 0; rank < stages; ++rank) {
        add_rank({program.ranks.emplace_back(), 1, micro_batches}, 2 * (stages - rank) - 1,
                 2 * rank);
    }
    return program;
}

ScheduleProgram zero_bubble_v(int stages, int micro_batches) {
    // The pattern needs a full warm-up. Without its last micro-batches a program stays valid.
    const int pattern = std::max(micro_batches, 2 * stages - 1);
    ScheduleProgram program{stages, 2, micro_batches, Placement::vee, {}};
    for (int rank = 0; rank < stages; ++rank) {
        std::vector<Action>& actions = program.ranks.emplace_back();
        add_rank_of_vee({actions, 2, pattern}, stages, rank);
        std::erase_if(actions, [&](const Action& a) { return a.micro_batch >= micro_batches; });
    }
    return program;
}

}  // namespace trireme
