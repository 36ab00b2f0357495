#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "core/cpu/cpu_device.h"
#include "core/file_io.h"
#include "parallel/mesh.h"
#include "parallel/pipeline_runtime.h"
#include "parallel/schedule_drawing.h"

// Runs each schedule with actions that take a fixed time and compares the step with the
// simulator's. See scripts/bench-schedules.

namespace trireme {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStages = 4;
constexpr int kMicroBatches = 8;
constexpr double kActionSeconds = 0.100;  // of a whole stage: forward, and each half of backward

// A stage whose actions take a given time and compute nothing.
class SleepingStage final : public StageExecutor {
public:
    SleepingStage(int rank, const StageCosts& costs, Clock::time_point start,
                  std::vector<DrawnSpan>& spans)
        : rank_(rank), costs_(costs), start_(start), spans_(spans) {}

    void perform(const StageAction& work) override {
        const Action& action = work.action;
        const auto begin = Clock::now();
        const std::chrono::duration<double> time(duration_of(action.kind, costs_));
        std::this_thread::sleep_until(begin + std::chrono::duration_cast<Clock::duration>(time));
        spans_.push_back({.rank = rank_,
                          .name = std::to_string(action.micro_batch),
                          .kind = name_of(action.kind),
                          .chunk = action.chunk,
                          .begin = seconds_since(begin),
                          .end = seconds_since(Clock::now())});
    }

private:
    double seconds_since(Clock::time_point time) const {
        return std::chrono::duration<double>(time - start_).count();
    }

    int rank_;
    StageCosts costs_;
    Clock::time_point start_;
    std::vector<DrawnSpan>& spans_;
};

std::vector<DrawnSpan> measure(const ScheduleProgram& program, const StageCosts& costs) {
    std::vector<std::vector<DrawnSpan>> of_rank(static_cast<size_t>(program.stages));
    const auto start = Clock::now() + std::chrono::milliseconds(200);
    run_thread_ranks(program.stages, [&](World& world) {
        CpuDevice device(1);
        Mesh mesh(world, {.pipeline = program.stages}, 1);
        PipelineRuntime runtime(device, mesh.pipeline_activations(), mesh.pipeline_gradients(),
                                program, DType::f32, Shape{64, 64});
        auto& spans = of_rank[static_cast<size_t>(world.rank())];
        spans.reserve(program.ranks[static_cast<size_t>(world.rank())].size());
        SleepingStage stage(world.rank(), costs, start, spans);
        std::this_thread::sleep_until(start);
        runtime.run(stage);
        mesh.all().barrier();
    });
    std::vector<DrawnSpan> all;
    for (const auto& spans : of_rank) all.insert(all.end(), spans.begin(), spans.end());
    return all;
}

double makespan_of(const std::vector<DrawnSpan>& spans) {
    double end = 0;
    for (const DrawnSpan& span : spans) end = std::max(end, span.end);
    return end;
}

void run(const std::string& folder) {
    std::printf(
        "%d stages, %d micro-batches, %.0f ms for a stage's forward and each half of its "
        "backward\n",
        kStages, kMicroBatches, kActionSeconds * 1e3);
    std::printf("%-14s %14s %14s %12s %12s\n", "schedule", "simulated s", "measured s",
                "difference", "bubble rate");
    for (const char* name : {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v", "zb-auto"}) {
        PipelineOptions options;
        options.schedule = name;
        const bool has_chunks = options.schedule == "interleaved" || options.schedule == "zb-v";
        options.virtual_stages = has_chunks ? 2 : 1;
        const ScheduleProgram program = make_schedule(options, kStages, kMicroBatches);
        const StageCosts costs =
            costs_of_chunk({kActionSeconds, kActionSeconds, kActionSeconds, 0.0}, program.chunks);
        const Simulation simulation = simulate(program, costs);
        std::vector<std::vector<DrawnSpan>> runs;
        for (int i = 0; i < 3; ++i) runs.push_back(measure(program, costs));
        std::sort(runs.begin(), runs.end(),
                  [](const auto& a, const auto& b) { return makespan_of(a) < makespan_of(b); });
        const std::vector<DrawnSpan>& median = runs[1];
        const double measured = makespan_of(median);
        std::printf("%-14s %14.4f %14.4f %11.2f%% %12.4f\n", name, simulation.makespan, measured,
                    100 * (measured / simulation.makespan - 1), simulation.bubble_rate);
        std::fflush(stdout);
        if (folder.empty()) continue;
        replace_file(folder + "/" + name + "-simulated.svg",
                     draw_svg(spans_of(simulation),
                              {.title = std::string(name) + ", simulated", .time_unit = "s"}));
        replace_file(
            folder + "/" + name + "-measured.svg",
            draw_svg(median, {.title = std::string(name) + ", measured", .time_unit = "s"}));
    }
}

}  // namespace
}  // namespace trireme

int main(int argc, char** argv) {
    trireme::run(argc > 1 ? argv[1] : "");
    return 0;
}
