#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/build_info.h"
#include "app/commands.h"
#include "app/config.h"
#include "app/memory_changes.h"
#include "app/memory_plan.h"
#include "app/readable.h"
#include "core/file_io.h"
#include "model/flops.h"
#include "parallel/schedule_drawing.h"

namespace trireme {

namespace {

using nlohmann::ordered_json;

ordered_json json_of(const Config& config, const ScheduleProgram& program,
                     const Simulation& simulation) {
    ordered_json ranks = ordered_json::array();
    for (const Simulation::RankTimes& rank : simulation.ranks) {
        ranks.push_back({{"busy", rank.busy},
                         {"bubble", rank.bubble},
                         {"peak_activations", rank.peak_activations}});
    }
    return {{"schedule", config.pipeline.schedule},
            {"stages", program.stages},
            {"chunks", program.chunks},
            {"micro_batches", program.micro_batches},
            {"makespan", simulation.makespan},
            {"bubble_rate", simulation.bubble_rate},
            {"ranks", ranks}};
}

ordered_json json_of(const Config& config, const MemoryPlan& plan,
                     const std::vector<MemoryChange>& changes) {
    ordered_json stages = ordered_json::array();
    for (const MemoryPlan::Labels& labels : plan.stages) {
        stages.push_back({{"total_bytes", MemoryPlan::total_of(labels)}, {"bytes", labels}});
    }
    ordered_json less = ordered_json::array();
    for (const MemoryChange& change : changes) {
        less.push_back({{"set", change.set},
                        {"processes", change.processes},
                        {"largest_bytes", change.largest_bytes}});
    }
    const MeshShape& mesh = config.mesh;
    return {{"parameters", count_parameters(config.model).total},
            {"processes", mesh.ranks()},
            {"mesh",
             {{"tensor", mesh.tensor},
              {"context", mesh.context},
              {"data", mesh.data},
              {"pipeline", mesh.pipeline}}},
            {"micro_batches", config.micro_batches()},
            {"memory", stages},
            {"largest_bytes", plan.largest_bytes()},
            {"changes", less},
            {"checkpoint_copy_bytes", plan.checkpoint_copy_bytes},
            {"checkpoint_bytes", plan.checkpoint_bytes}};
}

// A line for each stage, one for neighbours that hold the same. What is small is put together.
void print_memory(const std::vector<MemoryPlan::Labels>& stages) {
    const std::array columns{"parameters", "gradients", "optimizer state", "activations"};
    std::printf("%-14s", "memory");
    for (const char* label : columns) std::printf("%16s", label);
    std::printf("%16s%16s\n", "other", "in all");
    for (size_t begin = 0, end = 0; begin < stages.size(); begin = end) {
        const MemoryPlan::Labels& labels = stages[begin];
        while (end < stages.size() && stages[end] == labels) ++end;
        std::string name = "each process";
        if (begin > 0 || end < stages.size()) name = "stage " + std::to_string(begin);
        if (begin > 0 && end - begin > 1) {
            name = "stages " + std::to_string(begin) + "-" + std::to_string(end - 1);
        }
        std::printf("%-14s", name.c_str());
        uint64_t other = MemoryPlan::total_of(labels);
        for (const char* label : columns) {
            const auto found = labels.find(label);
            const uint64_t bytes = found == labels.end() ? 0 : found->second;
            other -= bytes;
            std::printf("%16s", readable_bytes(bytes).c_str());
        }
        std::printf("%16s%16s\n", readable_bytes(other).c_str(),
                    readable_bytes(MemoryPlan::total_of(labels)).c_str());
    }
}

void print_changes(const Config& config, const std::vector<MemoryChange>& changes) {
    if (changes.empty()) return;
    std::printf("\nwith one change, the largest process holds\n");
    for (const MemoryChange& change : changes) {
        std::printf("  %-28s%12s", change.set.c_str(),
                    readable_bytes(change.largest_bytes).c_str());
        if (change.processes != config.mesh.ranks()) {
            std::printf("  (%d processes)", change.processes);
        }
        std::printf("\n");
    }
}

void print(const Config& config, const MemoryPlan& plan, const std::vector<MemoryChange>& changes,
           const Simulation& simulation) {
    const int processes = config.mesh.ranks();
    std::printf("%" PRId64 " parameters in %s on %s: %d process%s\n",
                count_parameters(config.model).total,
                config.precision.compute == DType::bf16 ? "bf16" : "fp32",
                config.mesh.to_string().c_str(), processes, processes == 1 ? "" : "es");
    std::printf("a step: %d sequences of %d tokens, %d micro-batches of %d on each data rank\n\n",
                config.batch.global, config.data.sequence_length, config.micro_batches(),
                config.batch.micro);
    print_memory(plan.stages);
    std::printf("on top of it: what libraries take for themselves");
    if (plan.checkpoint_copy_bytes > 0) {
        std::printf(", and %s of host memory for the copy of a checkpoint that is being written",
                    readable_bytes(plan.checkpoint_copy_bytes).c_str());
    }
    std::printf("\n");
    print_changes(config, changes);
    std::printf("\na checkpoint: %s on disk\n", readable_bytes(plan.checkpoint_bytes).c_str());
    std::printf(
        "schedule %s: bubble %.1f%% of the time, at most %d micro-batches kept "
        "(--schedule-only draws it)\n",
        config.pipeline.schedule.c_str(), 100.0 * simulation.bubble_rate,
        std::max_element(
            simulation.ranks.begin(), simulation.ranks.end(),
            [](const auto& a, const auto& b) { return a.peak_activations < b.peak_activations; })
            ->peak_activations);
}

}  // namespace

int plan_command(const PlanArguments& arguments) {
    std::vector<std::string> sets = arguments.sets;
    // A plan needs no GPU, nor a program that could use one.
    const std::vector<std::string> built = built_backends();
    if (std::find(built.begin(), built.end(), "cuda") == built.end()) {
        sets.push_back("device.backend=cpu");
    }
    const auto load = [&](const std::vector<std::string>& all) {
        Config config = load_config(arguments.config, all, arguments.world);
        if (config.mesh.data == 0) {
            const MeshShape& mesh = config.mesh;
            check_world(config, mesh.tensor * mesh.context * mesh.pipeline);
        }
        return config;
    };
    const Config config = load(sets);
    const ScheduleProgram program =
        make_schedule(config.pipeline, config.mesh.pipeline, config.micro_batches());
    // The costs are those of a whole stage; its chunks share them.
    const Simulation simulation =
        simulate(program, costs_of_chunk(config.pipeline.costs, program.chunks));
    const std::string title = config.pipeline.schedule + ", " + std::to_string(program.stages) +
                              " stages, " + std::to_string(program.micro_batches) +
                              " micro-batches";
    if (!arguments.svg.empty()) {
        replace_file(arguments.svg,
                     draw_svg(spans_of(simulation), {.title = title, .time_unit = ""}));
    }
    if (!arguments.trace.empty()) {
        replace_file(arguments.trace, draw_chrome_trace(spans_of(simulation), 1000.0));
    }
    const ordered_json schedule = json_of(config, program, simulation);
    if (arguments.schedule_only) {
        if (arguments.json) {
            std::printf("%s\n", schedule.dump().c_str());
        } else {
            std::printf("%s\n\n%s\n%s", title.c_str(), draw_text(simulation).c_str(),
                        times_table(simulation).c_str());
        }
        return static_cast<int>(ExitCode::ok);
    }
    const MemoryPlan memory = plan_memory(config);
    const std::vector<MemoryChange> changes =
        find_memory_changes(config, memory, [&](const std::string& set) {
            std::vector<std::string> all = sets;
            all.push_back(set);
            return load(all);
        });
    if (arguments.json) {
        ordered_json json = json_of(config, memory, changes);
        json["schedule"] = schedule;
        std::printf("%s\n", json.dump().c_str());
    } else {
        print(config, memory, changes, simulation);
    }
    return static_cast<int>(ExitCode::ok);
}

}  // namespace trireme
