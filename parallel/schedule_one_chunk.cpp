#include <algorithm>

#include "parallel/schedule_families.h"

namespace trireme {

ScheduleProgram gpipe_schedule(int stages, int micro_batches) {
    ScheduleProgram program{stages, 1, micro_batches, Placement::loop, {}};
    for (int rank = 0; rank < stages; ++rank) {
        ActionList actions(program.ranks.emplace_back(), 1, micro_batches);
        while (actions.add(ActionKind::forward)) continue;
        while (actions.add(ActionKind::backward)) continue;
    }
    return program;
}

ScheduleProgram one_forward_one_backward(int stages, int micro_batches, int extra_warmup) {
    ScheduleProgram program{stages, 1, micro_batches, Placement::loop, {}};
    for (int rank = 0; rank < stages; ++rank) {
        ActionList actions(program.ranks.emplace_back(), 1, micro_batches);
        const int64_t warm_up = int64_t{stages - rank - 1} * (1 + extra_warmup);
        for (int64_t i = 0; i < std::min<int64_t>(warm_up, micro_batches); ++i) {
            actions.add(ActionKind::forward);
        }
        while (!actions.all(ActionKind::backward)) {
            actions.add(ActionKind::forward);
            actions.add(ActionKind::backward);
        }
    }
    return program;
}

}  // namespace trireme
