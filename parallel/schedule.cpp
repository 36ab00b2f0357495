#include "parallel/schedule.h"

#include <algorithm>

#include "core/error.h"

namespace trireme {

namespace {

std::vector<Action> gpipe(int micro_batches) {
    std::vector<Action> actions;
    for (int i = 0; i < micro_batches; ++i) actions.push_back({ActionKind::forward, 0, i});
    for (int i = 0; i < micro_batches; ++i) actions.push_back({ActionKind::backward, 0, i});
    return actions;
}

std::vector<Action> one_forward_one_backward(int stages, int rank, int micro_batches) {
    const int warm_up = std::min(stages - rank - 1, micro_batches);
    std::vector<Action> actions;
    int forward = 0, backward = 0;
    while (forward < warm_up) actions.push_back({ActionKind::forward, 0, forward++});
    while (forward < micro_batches) {
        actions.push_back({ActionKind::forward, 0, forward++});
        actions.push_back({ActionKind::backward, 0, backward++});
    }
    while (backward < micro_batches) actions.push_back({ActionKind::backward, 0, backward++});
    return actions;
}

}  // namespace

int ScheduleProgram::source_of(int rank, const Action& action) const {
    const int stage = virtual_stage(rank, action.chunk);
    if (action.kind == ActionKind::forward) return stage - 1;
    return passes_gradient(action.kind) && stage + 1 < virtual_stages() ? stage + 1 : -1;
}

int ScheduleProgram::target_of(int rank, const Action& action) const {
    const int stage = virtual_stage(rank, action.chunk);
    if (action.kind == ActionKind::forward) return stage + 1 < virtual_stages() ? stage + 1 : -1;
    return passes_gradient(action.kind) ? stage - 1 : -1;
}

ScheduleProgram make_schedule(const std::string& name, int stages, int chunks, int micro_batches) {
    if (name != "gpipe" && name != "1f1b") {
        throw Error(ExitCode::config,
                    "pipeline schedule '" + name + "' is unknown; expected gpipe or 1f1b");
    }
    if (chunks != 1) {
        throw Error(ExitCode::config, "pipeline schedule '" + name +
                                          "' runs one virtual stage a rank, found " +
                                          std::to_string(chunks) + "; set virtual_stages to 1");
    }
    if (stages < 1 || micro_batches < 1) {
        throw Error(ExitCode::config, "pipeline schedule '" + name + "' over " +
                                          std::to_string(stages) + " stages and " +
                                          std::to_string(micro_batches) +
                                          " micro-batches; expected at least one of each");
    }
    ScheduleProgram program;
    program.stages = stages;
    program.chunks = chunks;
    program.micro_batches = micro_batches;
    for (int rank = 0; rank < stages; ++rank) {
        program.ranks.push_back(name == "gpipe"
                                    ? gpipe(micro_batches)
                                    : one_forward_one_backward(stages, rank, micro_batches));
    }
    return program;
}

std::vector<int> peak_live_activations(const ScheduleProgram& program) {
    std::vector<int> peaks;
    for (const std::vector<Action>& actions : program.ranks) {
        int live = 0, peak = 0;
        for (const Action& action : actions) {
            if (action.kind == ActionKind::forward) peak = std::max(peak, ++live);
            if (ends_slot(action.kind)) --live;
        }
        peaks.push_back(peak);
    }
    return peaks;
}

}  // namespace trireme
