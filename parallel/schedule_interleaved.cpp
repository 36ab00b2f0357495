#include <algorithm>

#include "core/error.h"
#include "parallel/schedule_families.h"

namespace trireme {

namespace {

void check_group(int stages, int micro_batches, int group) {
    const auto fail = [&](const std::string& why) {
        throw Error(ExitCode::config, "pipeline schedule 'interleaved' over " +
                                          std::to_string(stages) + " stages and " +
                                          std::to_string(micro_batches) + " micro-batches: " + why);
    };
    if (micro_batches < stages) {
        fail("expected at least as many micro-batches as stages; use more micro-batches or 1f1b");
    }
    if (group < stages || group > micro_batches) {
        fail("found micro_batch_group " + std::to_string(group) +
             ", expected at least the stages and at most the micro-batches");
    }
    const int rest = micro_batches % group;
    if (rest != 0 && rest < stages) {
        fail("groups of " + std::to_string(group) + " leave a last one of " + std::to_string(rest) +
             ", expected none or at least as many as stages; change the number of micro-batches or "
             "micro_batch_group");
    }
}

// In which order the chunks' forwards come; backwards do the same with the chunks turned round.
std::vector<Action> order_of_forwards(int chunks, int micro_batches, int group) {
    std::vector<Action> order;
    for (int first = 0; first < micro_batches; first += group) {
        const int end = std::min(micro_batches, first + group);
        for (int chunk = 0; chunk < chunks; ++chunk) {
            for (int i = first; i < end; ++i) order.push_back({ActionKind::forward, chunk, i});
        }
    }
    return order;
}

}  // namespace

ScheduleProgram interleaved_schedule(int stages, int chunks, int micro_batches, int group) {
    if (group == 0) group = stages;
    check_group(stages, micro_batches, group);
    ScheduleProgram program{stages, chunks, micro_batches, Placement::loop, {}};
    // The first rank needs what comes round only when it has been through a whole group. By then
    // the last rank has finished all of it but the last `stages` micro-batches.
    program.wrap_receives_ahead = std::max(1, group - stages);
    const std::vector<Action> forwards = order_of_forwards(chunks, micro_batches, group);
    std::vector<Action> backwards = forwards;
    for (Action& action : backwards) {
        action = {ActionKind::backward, chunks - 1 - action.chunk, action.micro_batch};
    }
    for (int rank = 0; rank < stages; ++rank) {
        std::vector<Action>& actions = program.ranks.emplace_back();
        const size_t warm_up = std::min(
            forwards.size(), static_cast<size_t>(2 * (stages - rank - 1) + (chunks - 1) * group));
        size_t forward = 0;
        while (forward < warm_up) actions.push_back(forwards[forward++]);
        for (const Action& backward : backwards) {
            if (forward < forwards.size()) actions.push_back(forwards[forward++]);
            actions.push_back(backward);
        }
    }
    return program;
}

}  // namespace trireme
