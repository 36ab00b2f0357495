#include "parallel/schedule.h"

#include <algorithm>

#include "core/error.h"
#include "parallel/schedule_families.h"
#include "parallel/schedule_file.h"

namespace trireme {

namespace {

using MakeSchedule = ScheduleProgram (*)(const PipelineOptions& options, int stages,
                                         int micro_batches);

constexpr int kAnyChunks = 0;

struct Family {
    const char* name;
    int chunks;
    MakeSchedule make;
};

constexpr Family kFamilies[] = {
    {"gpipe", 1, [](const PipelineOptions&, int p, int m) { return gpipe_schedule(p, m); }},
    {"1f1b", 1,
     [](const PipelineOptions& options, int p, int m) {
         return one_forward_one_backward(p, m, options.extra_warmup);
     }},
    {"interleaved", kAnyChunks,
     [](const PipelineOptions& options, int p, int m) {
         return interleaved_schedule(p, options.virtual_stages, m, options.micro_batch_group);
     }},
    {"zb-h1", 1, [](const PipelineOptions&, int p, int m) { return zero_bubble_h1(p, m); }},
    {"zb-h2", 1, [](const PipelineOptions&, int p, int m) { return zero_bubble_h2(p, m); }},
    {"zb-v", 2, [](const PipelineOptions&, int p, int m) { return zero_bubble_v(p, m); }},
    {"zb-auto", 1,
     [](const PipelineOptions& options, int p, int m) {
         return search_schedule(p, m, options.costs, options.memory_cap);
     }},
};

constexpr char kFilePrefix[] = "file:";

std::string known_names() {
    std::string names;
    for (const std::string& name : schedule_names()) names += name + ", ";
    return names + "or file:PATH";
}

}  // namespace

const char* name_of(ActionKind kind) {
    switch (kind) {
        case ActionKind::forward:
            return "forward";
        case ActionKind::backward:
            return "backward";
        case ActionKind::backward_input:
            return "backward_input";
        case ActionKind::backward_weight:
            return "backward_weight";
    }
    return "?";
}

const char* name_of(MessageKind kind) {
    return kind == MessageKind::activation ? "activation" : "gradient";
}

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

int ScheduleProgram::receives_ahead(int to, MessageKind kind) const {
    const int behind_round = kind == MessageKind::gradient ? stages - 1 : 0;
    const bool from_round = placement == Placement::loop && to == behind_round;
    return from_round ? wrap_receives_ahead : 1;
}

std::vector<std::string> schedule_names() {
    std::vector<std::string> names;
    for (const Family& family : kFamilies) names.push_back(family.name);
    return names;
}

ScheduleProgram make_schedule(const PipelineOptions& options, int stages, int micro_batches) {
    const std::string subject = "pipeline schedule '" + options.schedule + "'";
    if (stages < 1 || micro_batches < 1) {
        throw Error(ExitCode::config, subject + " over " + std::to_string(stages) + " stages and " +
                                          std::to_string(micro_batches) +
                                          " micro-batches; expected at least one of each");
    }
    if (options.schedule.starts_with(kFilePrefix)) {
        ScheduleProgram program = read_schedule_file(
            options.schedule.substr(sizeof kFilePrefix - 1), stages, micro_batches);
        if (program.chunks != options.virtual_stages) {
            throw Error(ExitCode::config, subject + " has " + std::to_string(program.chunks) +
                                              " chunks a rank, found virtual_stages " +
                                              std::to_string(options.virtual_stages) +
                                              "; set virtual_stages to " +
                                              std::to_string(program.chunks));
        }
        return program;
    }
    for (const Family& family : kFamilies) {
        if (options.schedule != family.name) continue;
        const bool fits = family.chunks == kAnyChunks ? options.virtual_stages >= 1
                                                      : options.virtual_stages == family.chunks;
        if (fits) return family.make(options, stages, micro_batches);
        const std::string expected =
            family.chunks == kAnyChunks ? "at least 1" : std::to_string(family.chunks);
        throw Error(ExitCode::config,
                    subject + " runs " +
                        (family.chunks == 1 ? "one virtual stage" : expected + " virtual stages") +
                        " a rank, found " + std::to_string(options.virtual_stages) +
                        "; set virtual_stages to " + expected);
    }
    throw Error(ExitCode::config, subject + " is unknown; expected " + known_names());
}

ScheduleProgram make_schedule(const std::string& name, int stages, int chunks, int micro_batches) {
    PipelineOptions options;
    options.schedule = name;
    options.virtual_stages = chunks;
    return make_schedule(options, stages, micro_batches);
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
