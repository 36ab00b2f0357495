#include "app/plan_report.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "app/readable.h"
#include "core/format_number.h"
#include "model/flops.h"
#include "parallel/mesh_json.h"

namespace trireme {

namespace {

using nlohmann::ordered_json;

constexpr size_t kShownLayouts = 10;

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
    return {{"parameters", count_parameters(config.model).total},
            {"processes", config.mesh.ranks()},
            {"mesh", json_of<ordered_json>(config.mesh)},
            {"micro_batches", config.micro_batches()},
            {"memory", stages},
            {"largest_bytes", plan.largest_bytes()},
            {"changes", less},
            {"checkpoint_copy_bytes", plan.checkpoint_copy_bytes},
            {"checkpoint_bytes", plan.checkpoint_bytes}};
}

ordered_json json_of(const TimePlan& plan) {
    ordered_json stages = ordered_json::array();
    for (const TimePlan::Stage& stage : plan.stages) {
        stages.push_back({{"matmul_seconds", stage.matmul},
                          {"attention_seconds", stage.attention},
                          {"other_compute_seconds", stage.other_compute},
                          {"wait_tensor_seconds", stage.waits.tensor},
                          {"wait_context_seconds", stage.waits.context},
                          {"wait_data_seconds", stage.waits.data},
                          {"wait_pipeline_seconds", stage.waits.pipeline},
                          {"wait_all_seconds", stage.other_wait}});
    }
    return {{"step_seconds", plan.step_seconds},
            {"tokens_per_second", plan.tokens_per_second},
            {"tflops_per_rank", plan.flops_per_second_per_rank / 1e12},
            {"mfu", plan.mfu},
            {"stages", stages}};
}

ordered_json json_of(const std::vector<Layout>& layouts) {
    ordered_json list = ordered_json::array();
    for (const Layout& layout : layouts) {
        list.push_back({{"set", layout.sets},
                        {"largest_bytes", layout.largest_bytes},
                        {"step_seconds", layout.step_seconds},
                        {"tokens_per_second", layout.tokens_per_second}});
    }
    return list;
}

// Of stages [begin, end) of `of`, in a table.
std::string name_of_stages(size_t begin, size_t end, size_t of) {
    if (end - begin == of) return "each process";
    if (end - begin == 1) return "stage " + std::to_string(begin);
    return "stages " + std::to_string(begin) + "-" + std::to_string(end - 1);
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
        std::printf("%-14s", name_of_stages(begin, end, stages.size()).c_str());
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

// Parts of a step for each stage, neighbours that differ by less than is shown on one line.
void print_stage_times(const TimePlan& plan) {
    const auto parts_of = [&](const TimePlan::Stage& stage) {
        std::string parts;
        for (const double seconds :
             {stage.matmul, stage.attention, stage.other_compute, stage.waits.tensor,
              stage.waits.context, stage.waits.data, stage.waits.pipeline, stage.other_wait}) {
            parts += format_number("%12.1f%%", 100.0 * seconds / plan.step_seconds);
        }
        return parts;
    };
    std::printf("%-14s%13s%13s%13s%13s%13s%13s%13s%13s\n", "time", "matmul", "attention", "other",
                "wait tensor", "wait context", "wait data", "wait stages", "wait all");
    for (size_t begin = 0, end = 0; begin < plan.stages.size(); begin = end) {
        const std::string parts = parts_of(plan.stages[begin]);
        while (end < plan.stages.size() && parts_of(plan.stages[end]) == parts) ++end;
        std::printf("%-14s%s\n", name_of_stages(begin, end, plan.stages.size()).c_str(),
                    parts.c_str());
    }
}

void print_time(const PlanReport& report) {
    const Cluster& cluster = *report.cluster;
    const TimePlan& time = *report.time;
    const uint64_t largest = report.memory.largest_bytes();
    std::printf("\nestimated for %s, %d of its %d devices: %s of %s a device: %s\n",
                cluster.source.c_str(), report.config.mesh.ranks(), cluster.devices(),
                readable_bytes(largest).c_str(), readable_bytes(cluster.memory_bytes).c_str(),
                largest <= cluster.memory_bytes ? "fits" : "does not fit");
    std::printf("a step: %.3g s | %.4g tok/s | %.4g TFLOP/s/rank (MFU %.1f%%)\n", time.step_seconds,
                time.tokens_per_second, time.flops_per_second_per_rank / 1e12, 100.0 * time.mfu);
    print_stage_times(time);
}

void print_layouts(const std::vector<Layout>& layouts) {
    if (layouts.empty()) {
        std::printf("\nno layout of so many processes fits\n");
        return;
    }
    std::printf("\nthe fastest layouts that fit, estimated\n%12s%14s%14s  --set\n", "step", "tok/s",
                "memory");
    for (size_t i = 0; i < std::min(layouts.size(), kShownLayouts); ++i) {
        std::string sets;
        for (const std::string& set : layouts[i].sets) sets += " " + set;
        std::printf("%10.4g s%14.4g%14s %s\n", layouts[i].step_seconds,
                    layouts[i].tokens_per_second, readable_bytes(layouts[i].largest_bytes).c_str(),
                    sets.c_str());
    }
}

}  // namespace

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

ordered_json json_of(const PlanReport& report) {
    ordered_json json = json_of(report.config, report.memory, report.changes);
    json["schedule"] = json_of(report.config, report.program, report.simulation);
    if (report.time) json["time"] = json_of(*report.time);
    if (report.layouts) json["layouts"] = json_of(*report.layouts);
    return json;
}

void print(const PlanReport& report) {
    const Config& config = report.config;
    const MemoryPlan& plan = report.memory;
    const Simulation& simulation = report.simulation;
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
    print_changes(config, report.changes);
    std::printf("\na checkpoint: %s on disk\n", readable_bytes(plan.checkpoint_bytes).c_str());
    std::printf(
        "schedule %s: bubble %.1f%% of the time, at most %d micro-batches kept "
        "(--schedule-only draws it)\n",
        config.pipeline.schedule.c_str(), 100.0 * simulation.bubble_rate,
        std::max_element(
            simulation.ranks.begin(), simulation.ranks.end(),
            [](const auto& a, const auto& b) { return a.peak_activations < b.peak_activations; })
            ->peak_activations);
    if (report.time) print_time(report);
    if (report.layouts) print_layouts(*report.layouts);
}

}  // namespace trireme
