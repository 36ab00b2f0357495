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

ScheduleProgram one_forward_one_backward(int stages, int micro_batches) {
    ScheduleProgram program{stages, 1, micro_batches, Placement::loop, {}};
    for (int rank = 0; rank < stages; ++rank) {
        ActionList actions(program.ranks.emplace_back(), 1, micro_batches);
        const int warm_up = stages - rank - 1;
        for (int i = 0; i < warm_up; ++i) actions.add(ActionKind::forward);
        while (!actions.all(ActionKind::backward)) {
            actions.add(ActionKind::forward);
            actions.add(ActionKind::backward);
        }
    }
    return program;
}

}  // namespace trireme
