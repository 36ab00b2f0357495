#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"
#include "parallel/pipeline_runtime.h"

namespace trireme::testing {

// A stage that passes on which micro-batch came through which virtual stage, and checks what comes
// from its neighbours.
class MarkingStage final : public StageExecutor {
public:
    MarkingStage(const ScheduleProgram& program, int rank) : program_(program), rank_(rank) {}

    void perform(const StageAction& work) override {
        const auto [kind, chunk, micro_batch] = work.action;
        const int stage = program_.virtual_stage(rank_, chunk);
        if (kind == ActionKind::forward) {
            check(work.input, mark(stage - 1, micro_batch), "activation");
            fill(work.result, mark(stage, micro_batch));
        } else if (passes_gradient(kind)) {
            check(work.output_gradient, -mark(stage + 1, micro_batch), "gradient");
            fill(work.result, -mark(stage, micro_batch));
        }
        ++done_;
    }

    size_t done() const { return done_; }

private:
    static float mark(int stage, int micro_batch) {
        return static_cast<float>(1000 * (micro_batch + 1) + stage);
    }
    static void fill(const Tensor& to, float value) {
        for (int64_t i = 0; to && i < to.elements(); ++i) to.as<float>()[i] = value;
    }
    static void check(const Tensor& from, float value, const char* what) {
        for (int64_t i = 0; from && i < from.elements(); ++i) {
            if (from.as<float>()[i] == value) continue;
            throw std::runtime_error(std::string("expected ") + what + " " + std::to_string(value) +
                                     ", found " + std::to_string(from.as<float>()[i]));
        }
    }

    const ScheduleProgram& program_;
    const int rank_;
    size_t done_ = 0;
};

// The programs of all named schedules for this many stages, where the name serves such sizes.
inline std::vector<ScheduleProgram> all_programs(int stages, int most_micro_batches) {
    std::vector<ScheduleProgram> programs;
    for (const std::string& name : schedule_names()) {
        bool serves = false;
        for (int chunks = 1; chunks <= 2; ++chunks) {
            for (int micro_batches = 1; micro_batches <= most_micro_batches; ++micro_batches) {
                try {
                    programs.push_back(make_schedule(name, stages, chunks, micro_batches));
                    serves = true;
                } catch (const Error& error) {
                    if (error.code() != ExitCode::config) throw;
                }
            }
        }
        if (!serves) throw std::runtime_error("expected " + name + " to serve some sizes");
    }
    return programs;
}

// All of them on a world of any size, two steps each, with boundaries of several sizes.
inline void run_all_programs(World& world) {
    const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
    const auto activations =
        world.split(0, world.rank(), "pipeline_activations", GroupUse::neighbours);
    const auto gradients = world.split(0, world.rank(), "pipeline_gradients", GroupUse::neighbours);
    for (const ScheduleProgram& program : all_programs(world.size(), world.size() + 2)) {
        // The small one leaves at once where sends need not wait for their receivers.
        for (const Shape& boundary : {Shape{3, 7}, Shape{10, 1000}}) {
            PipelineRuntime runtime(*device, *activations, *gradients, program, DType::f32,
                                    boundary);
            MarkingStage stage(program, world.rank());
            runtime.run(stage);
            runtime.run(stage);
            const size_t expected = 2 * program.ranks[static_cast<size_t>(world.rank())].size();
            if (stage.done() != expected) throw std::runtime_error("expected every action");
        }
    }
}

}  // namespace trireme::testing
