#pragma once

#include "parallel/schedule.h"

namespace trireme {

// A micro-batch goes all the way forward and back before the next one starts: any number of chunks
// and either placement.
inline ScheduleProgram depth_first_program(int stages, int chunks, int micro_batches,
                                           Placement placement) {
    ScheduleProgram program{stages, chunks, micro_batches, placement, {}};
    for (int rank = 0; rank < stages; ++rank) {
        std::vector<Action>& actions = program.ranks.emplace_back();
        for (int i = 0; i < micro_batches; ++i) {
            for (int c = 0; c < chunks; ++c) actions.push_back({ActionKind::forward, c, i});
            for (int c = chunks; c-- > 0;) actions.push_back({ActionKind::backward, c, i});
        }
    }
    return program;
}

// All micro-batches forward on the first chunk, then on the next; then back.
inline ScheduleProgram breadth_first_program(int stages, int chunks, int micro_batches) {
    ScheduleProgram program{stages, chunks, micro_batches, Placement::loop, {}};
    for (int rank = 0; rank < stages; ++rank) {
        std::vector<Action>& actions = program.ranks.emplace_back();
        for (int c = 0; c < chunks; ++c) {
            for (int i = 0; i < micro_batches; ++i) {
                actions.push_back({ActionKind::forward, c, i});
            }
        }
        for (int c = chunks; c-- > 0;) {
            for (int i = 0; i < micro_batches; ++i) {
                actions.push_back({ActionKind::backward, c, i});
            }
        }
    }
    return program;
}

// 1f1b with the backward in halves; rank r runs weight halves r micro-batches late.
inline ScheduleProgram split_1f1b_program(int stages, int micro_batches) {
    ScheduleProgram program = make_schedule("1f1b", stages, 1, micro_batches);
    for (int rank = 0; rank < stages; ++rank) {
        std::vector<Action> actions;
        int next_weight = 0;
        for (const Action& action : program.ranks[static_cast<size_t>(rank)]) {
            if (action.kind == ActionKind::forward) {
                actions.push_back(action);
                continue;
            }
            actions.push_back({ActionKind::backward_input, 0, action.micro_batch});
            if (action.micro_batch >= rank) {
                actions.push_back({ActionKind::backward_weight, 0, next_weight++});
            }
        }
        while (next_weight < micro_batches) {
            actions.push_back({ActionKind::backward_weight, 0, next_weight++});
        }
        program.ranks[static_cast<size_t>(rank)] = actions;
    }
    return program;
}

}  // namespace trireme
