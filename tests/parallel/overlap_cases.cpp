#include "tests/parallel/overlap_cases.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "parallel/gradient_reducer.h"
#include "parallel/mesh.h"
#include "parallel/pipeline_runtime.h"

namespace trireme::testing {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kLayers = 12;
constexpr int64_t kLayerElements = 40'000;
constexpr int kStages = 2;
constexpr int kMicroBatches = 24;
const Shape kBoundary{100, 250};

void work(bool computes, double ms) {
    if (computes) std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms));
}

double seconds_of(const OverlapCase& one, const LinkOptions& link, OverlapCase::Parts parts,
                  int steps) {
    std::vector<double> seconds;
    run_thread_ranks(one.ranks, [&](World& world) {
        const auto throttled = make_throttled_world(world, {link});
        const auto all = world.split(0, 0, "all");
        const auto step = one.make(*throttled, parts);
        step->run();
        for (int i = 0; i < steps; ++i) {
            all->barrier();
            const Clock::time_point begin = Clock::now();
            step->run();
            all->barrier();
            if (world.rank() != 0) continue;
            seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
        }
    });
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
}

// A backward pass over layers that each take two units, one bucket a layer.
class GradientStep final : public OverlapStep {
public:
    GradientStep(World& world, OverlapCase::Parts parts, double unit_ms)
        : parts_(parts),
          unit_ms_(unit_ms),
          device_(make_device({.backend = Backend::cpu, .threads = 1}, 0, 1)),
          mesh_(world, {.tensor = 1, .context = 1, .data = world.size(), .pipeline = 1}, 1) {
        std::vector<ParameterSpec> specs(kLayers);
        for (ParameterSpec& spec : specs) {
            spec.global = {kLayerElements / 100, 100};
            spec.box.size = spec.global;
        }
        layout_ = plan_flat_layout(specs, world.size(), kLayerElements);
        Tensor gradients;
        arena_.emplace(make_arena(*device_, "gradients", [&](Arena& arena) {
            gradients = arena.take(DType::f32, {layout_.elements});
        }));
        const DataParallelOptions options{.zero = 1, .overlap = parts.overlap};
        const GradientGroups groups{mesh_.data(), mesh_.data(), mesh_.tensor(), mesh_.tensor_kv()};
        reducer_.emplace(*device_, groups, ChunkGradients{specs, &layout_, gradients}, options);
    }

    void run() override {
        reducer_->begin_step();
        for (int layer = kLayers; layer-- > 0;) {
            work(parts_.compute, 2 * unit_ms_);
            reducer_->parameter_ready(layer);
        }
        reducer_->finish();
    }

private:
    const OverlapCase::Parts parts_;
    const double unit_ms_;
    const std::unique_ptr<Device> device_;
    Mesh mesh_;
    FlatLayout layout_;
    std::optional<Arena> arena_;
    std::optional<GradientReducer> reducer_;
};

// Forward takes one unit, backward two, each of its halves one.
class SleepingStage final : public StageExecutor {
public:
    SleepingStage(bool computes, double unit_ms) : computes_(computes), unit_ms_(unit_ms) {}
    void perform(const StageAction& action) override {
        work(computes_, (action.action.kind == ActionKind::backward ? 2 : 1) * unit_ms_);
    }

private:
    const bool computes_;
    const double unit_ms_;
};

class PipelineStep final : public OverlapStep {
public:
    PipelineStep(World& world, OverlapCase::Parts parts, double unit_ms,
                 const ScheduleProgram& program)
        : device_(make_device({.backend = Backend::cpu, .threads = 1}, 0, 1)),
          mesh_(world, {.tensor = 1, .context = 1, .data = 1, .pipeline = world.size()}, 1),
          runtime_(*device_, mesh_.pipeline_activations(), mesh_.pipeline_gradients(), program,
                   DType::f32, kBoundary),
          stage_(parts.compute, unit_ms) {}

    void run() override { runtime_.run(stage_); }

private:
    const std::unique_ptr<Device> device_;
    Mesh mesh_;
    PipelineRuntime runtime_;
    SleepingStage stage_;
};

OverlapCase pipeline_case(std::string name, double unit_ms, ScheduleProgram program) {
    OverlapCase one;
    one.name = std::move(name);
    one.ranks = program.stages;
    one.axis = MeshAxis::pipeline;
    one.bytes = static_cast<double>(kBoundary.elements()) * sizeof(float) * program.micro_batches *
                program.chunks;
    one.bound = 1.15;
    one.make = [unit_ms, program = std::move(program)](World& world, OverlapCase::Parts parts) {
        return std::make_unique<PipelineStep>(world, parts, unit_ms, program);
    };
    return one;
}

}  // namespace

OverlapTimes measure(const OverlapCase& one, int steps) {
    const LinkOptions unlimited{one.axis, 0.0, 0.0};
    OverlapTimes times;
    times.compute = seconds_of(one, unlimited, {}, steps);
    LinkOptions link{one.axis, 0.0, one.bytes / times.compute / 1e6};
    // The time of the communication is proportional to that of a byte.
    const OverlapCase::Parts only_communication{.compute = false};
    link.bandwidth_mb_per_s *= seconds_of(one, link, only_communication, steps) / times.compute;
    times.bandwidth_mb_per_s = link.bandwidth_mb_per_s;
    times.communication = seconds_of(one, link, only_communication, steps);
    times.together = seconds_of(one, link, {}, steps);
    if (one.has_switch) times.apart = seconds_of(one, link, {.overlap = false}, steps);
    return times;
}

OverlapCase gradient_case(double unit_ms) {
    OverlapCase one;
    one.name = "data: gradients behind a backward pass";
    one.bytes = 0.5 * sizeof(float) * kLayers * static_cast<double>(kLayerElements);
    one.bound = 1.25;
    one.has_switch = true;
    one.make = [unit_ms](World& world, OverlapCase::Parts parts) {
        return std::make_unique<GradientStep>(world, parts, unit_ms);
    };
    return one;
}

OverlapCase schedule_case(const std::string& name, int chunks, double unit_ms, int extra_warmup) {
    PipelineOptions options;
    options.schedule = name;
    options.virtual_stages = chunks;
    options.extra_warmup = extra_warmup;
    const std::string more =
        extra_warmup > 0 ? ", extra_warmup " + std::to_string(extra_warmup) : "";
    return pipeline_case("pipeline: " + name + more, unit_ms / chunks,
                         make_schedule(options, kStages, kMicroBatches));
}

}  // namespace trireme::testing
