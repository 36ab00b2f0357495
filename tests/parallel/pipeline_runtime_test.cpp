#include "parallel/pipeline_runtime.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <initializer_list>
#include <random>
#include <stdexcept>
#include <thread>

#include "core/error.h"
#include "tests/core/expect.h"
#include "tests/parallel/sample_programs.h"

using namespace trireme;
using Catch::Matchers::Contains;
using trireme::test::expect;

namespace {

const Shape kBoundary{3, 7};

// A stage whose results are known numbers, unlike for every step, micro-batch, virtual stage and
// element: it checks all that it is given, and that its inputs stay untouched until the backward
// is done.
class NumberStage : public StageExecutor {
public:
    NumberStage(const ScheduleProgram& program, int rank, const std::vector<int>& slots)
        : program_(program),
          rank_(rank),
          random_(static_cast<unsigned>(rank + 1)),
          backward_left_(slots.size()),
          last_seen_(slots.size()) {
        for (int n : slots) slots_.emplace_back(static_cast<size_t>(n), -1);
    }

    void begin_step(int step, bool with_backward) {
        step_ = step;
        with_backward_ = with_backward;
        for (size_t c = 0; c < slots_.size(); ++c) {
            last_seen_[c] = false;
            backward_left_[c] = program_.micro_batches;
        }
    }
    void end_step() const {
        for (size_t c = 0; c < slots_.size(); ++c) {
            expect(last_seen_[c] && backward_left_[c] == 0, "every backward, and one of them last");
            for (int holds : slots_[c]) expect(holds == -1, "every slot to be free in the end");
        }
    }
    int forwards() const { return forwards_; }

    void perform(const StageAction& work) override {
        pause();
        const auto [kind, chunk, micro_batch] = work.action;
        const int stage = program_.virtual_stage(rank_, chunk);
        const bool has_next = stage + 1 < program_.virtual_stages();
        check(work.input, stage > 0, activation(stage - 1, micro_batch), name_of(kind));
        expect(ends_slot(kind) || !work.last, "neither a forward nor an input half to be last");
        if (kind == ActionKind::forward) {
            if (with_backward_) take_slot(chunk, work.slot, micro_batch);
            fill(work.result, has_next, activation(stage, micro_batch));
            ++forwards_;
            return;
        }
        expect(slot_at(chunk, work.slot) == micro_batch, "the slot of the forward");
        if (passes_gradient(kind)) {
            check(work.output_gradient, has_next, gradient(stage, micro_batch), "gradient");
            fill(work.result, stage > 0, gradient(stage - 1, micro_batch));
            if (work.output_gradient) fill(work.output_gradient, true, -1.0f);
        }
        if (ends_slot(kind)) end_slot(chunk, work.slot, work.last);
    }

private:
    // All below 2^24, so that sums with an element's number stay exact.
    float activation(int stage, int micro_batch) const {
        return static_cast<float>(((step_ * 64 + micro_batch) * 32 + stage) * 64);
    }
    float gradient(int stage, int micro_batch) const {
        return activation(stage, micro_batch) + 32.0f;
    }
    int& slot_at(int chunk, int slot) {
        return slots_.at(static_cast<size_t>(chunk)).at(static_cast<size_t>(slot));
    }
    void take_slot(int chunk, int slot, int micro_batch) {
        int& holds = slot_at(chunk, slot);
        expect(holds == -1, "a free slot");
        holds = micro_batch;
    }
    void end_slot(int chunk, int slot, bool last) {
        slot_at(chunk, slot) = -1;
        const size_t c = static_cast<size_t>(chunk);
        expect(last == (--backward_left_[c] == 0), "only the last backward to be called last");
        last_seen_[c] = last;
    }

    static void fill(const Tensor& to, bool present, float value) {
        expect(static_cast<bool>(to) == present, "an output exactly where there is a neighbour");
        if (!present) return;
        for (int64_t i = 0; i < to.elements(); ++i) {
            to.as<float>()[i] = value + static_cast<float>(i);
        }
    }
    static void check(const Tensor& from, bool present, float value, const char* what) {
        expect(static_cast<bool>(from) == present, "an input exactly where there is a neighbour");
        if (!present) return;
        expect(from.shape == kBoundary, "the boundary's shape");
        for (int64_t i = 0; i < from.elements(); ++i) {
            expect(from.as<float>()[i] == value + static_cast<float>(i),
                   std::string(what) + " " + std::to_string(value + static_cast<float>(i)) +
                       ", found " + std::to_string(from.as<float>()[i]));
        }
    }
    void pause() {
        const unsigned n = static_cast<unsigned>(random_() % 8);
        if (n < 3) std::this_thread::sleep_for(std::chrono::microseconds(30 * n));
    }

    const ScheduleProgram& program_;
    const int rank_;
    std::mt19937 random_;
    std::vector<std::vector<int>> slots_;  // of each chunk: which micro-batch holds it
    std::vector<int> backward_left_;
    std::vector<char> last_seen_;
    int step_ = 0;
    int forwards_ = 0;
    bool with_backward_ = true;
};

struct Pipeline {
    explicit Pipeline(World& world)
        : device(make_device({Backend::cpu, 1}, 0, 1)),
          activations(world.split(0, world.rank(), "activations")),
          gradients(world.split(0, world.rank(), "gradients")) {}

    // Two steps, an evaluation of another length, and one more step.
    void check(const ScheduleProgram& program) {
        expect(find_schedule_error(program).empty(), "a valid program");
        const int rank = activations->rank();
        PipelineRuntime runtime(*device, *activations, *gradients, program, DType::f32, kBoundary);
        std::vector<int> slots;
        for (int c = 0; c < program.chunks; ++c) slots.push_back(runtime.slots(c));
        NumberStage stage(program, rank, slots);
        for (int step = 0; step < 4; ++step) {
            const bool training = step != 2;
            const int micro_batches = training ? program.micro_batches : 5;
            const int forwards = stage.forwards();
            stage.begin_step(step, training);
            if (training) {
                runtime.run(stage);
                stage.end_step();
            } else {
                runtime.run_forward(stage, micro_batches);
            }
            expect(stage.forwards() - forwards == micro_batches * program.chunks,
                   "every forward once");
        }
    }

    std::unique_ptr<Device> device;
    std::unique_ptr<Communicator> activations, gradients;
};

}  // namespace

TEST_CASE("every micro-batch reaches every stage and comes back", "[parallel][pipeline]") {
    for (int stages = 1; stages <= 4; ++stages) {
        CAPTURE(stages);
        REQUIRE_NOTHROW(run_thread_ranks(stages, [&](World& world) {
            Pipeline pipeline(world);
            for (int micro_batches = 1; micro_batches <= 9; ++micro_batches) {
                pipeline.check(make_schedule("gpipe", stages, 1, micro_batches));
                pipeline.check(make_schedule("1f1b", stages, 1, micro_batches));
                pipeline.check(split_1f1b_program(stages, micro_batches));
            }
        }));
    }
}

TEST_CASE("chunks on one rank hand over without a transfer", "[parallel][pipeline]") {
    for (int stages = 1; stages <= 3; ++stages) {
        CAPTURE(stages);
        REQUIRE_NOTHROW(run_thread_ranks(stages, [&](World& world) {
            Pipeline pipeline(world);
            for (Placement placement : {Placement::loop, Placement::vee}) {
                for (int chunks = 2; chunks <= 3; ++chunks) {
                    pipeline.check(depth_first_program(stages, chunks, 4, placement));
                }
            }
            pipeline.check(breadth_first_program(stages, 2, stages));
        }));
    }
}

namespace {

void check_schedules_on(std::initializer_list<int> numbers_of_stages) {
    for (int stages : numbers_of_stages) {
        CAPTURE(stages);
        REQUIRE_NOTHROW(run_thread_ranks(stages, [&](World& world) {
            Pipeline pipeline(world);
            const auto check = [&](const char* name, int chunks, int micro_batches, int group) {
                PipelineOptions options;
                options.schedule = name;
                options.virtual_stages = chunks;
                options.micro_batch_group = group;
                options.memory_cap = 2 * stages - 2;
                options.costs = {1.0, 1.1, 0.6, 0.1};
                try {
                    pipeline.check(make_schedule(options, stages, micro_batches));
                } catch (const std::exception& error) {
                    throw std::runtime_error(std::string(name) + " of " +
                                             std::to_string(micro_batches) +
                                             " micro-batches: " + error.what());
                }
            };
            for (int micro_batches : {1, stages, 2 * stages - 1, 2 * stages + 3}) {
                for (const char* name : {"zb-h1", "zb-h2", "zb-auto"}) {
                    check(name, 1, micro_batches, 0);
                }
                check("zb-v", 2, micro_batches, 0);
            }
            check("interleaved", 2, stages, 0);
            check("interleaved", 2, 2 * stages, 0);
            check("interleaved", 3, 2 * stages + 1, stages + 1);
            // Results wait for their receiver for most of a pass over a chunk.
            check("interleaved", 2, 3 * stages, 3 * stages);
        }));
    }
}

}  // namespace

TEST_CASE("every schedule runs on ranks of any pace", "[parallel][pipeline]") {
    check_schedules_on({2, 3});
}

TEST_CASE("every schedule runs on more ranks of any pace", "[parallel][pipeline][long]") {
    check_schedules_on({4, 8});
}

TEST_CASE("a slow stage shows as the others' waits", "[parallel][pipeline]") {
    class SlowSecond : public StageExecutor {
    public:
        explicit SlowSecond(int rank) : slow_(rank == 1) {}
        void perform(const StageAction&) override {
            if (slow_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }

    private:
        bool slow_;
    };
    // Of the 80 ms that the second stage works. On a busy machine the first may be kept from
    // waiting, now and then.
    double idle = 0.0;
    for (int attempt = 0; attempt < 3 && idle <= 0.05; ++attempt) {
        REQUIRE_NOTHROW(run_thread_ranks(2, [&](World& world) {
            WaitAccount waits;
            Pipeline pipeline(world);
            pipeline.activations->put_waits_down_to(waits);
            pipeline.gradients->put_waits_down_to(waits);
            PipelineRuntime runtime(*pipeline.device, *pipeline.activations, *pipeline.gradients,
                                    make_schedule("1f1b", 2, 1, 4), DType::f32, kBoundary);
            SlowSecond stage(world.rank());
            runtime.run(stage);
            if (world.rank() == 0) idle = waits.seconds;
        }));
    }
    CHECK(idle > 0.05);
}

TEST_CASE("a stage that fails ends the pipeline instead of hanging it", "[parallel][pipeline]") {
    class FailingLast : public StageExecutor {
    public:
        FailingLast(int rank, int stages) : last_(rank == stages - 1) {}
        void perform(const StageAction& work) override {
            if (last_ && work.action == Action{ActionKind::forward, 0, 2}) {
                throw Error(ExitCode::numerics, "loss is NaN");
            }
        }

    private:
        bool last_;
    };
    // What transfers in flight may write to outlives the ranks.
    struct Memory {
        std::unique_ptr<Device> device;
        std::unique_ptr<PipelineRuntime> runtime;
    };
    std::vector<Memory> kept(3);
    const auto body = [&](World& world) {
        Pipeline pipeline(world);
        Memory& own = kept[static_cast<size_t>(world.rank())];
        own.device = make_device({Backend::cpu, 1}, 0, 1);
        own.runtime = std::make_unique<PipelineRuntime>(
            *own.device, *pipeline.activations, *pipeline.gradients, make_schedule("1f1b", 3, 1, 6),
            DType::f32, kBoundary);
        FailingLast stage(world.rank(), 3);
        try {
            own.runtime->run(stage);
        } catch (const Error& error) {
            world.abort(static_cast<int>(error.code()));
        }
    };
    REQUIRE_THROWS_WITH(run_thread_ranks(3, body), Contains("ended the run with code 76"));
}
