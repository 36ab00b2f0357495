#include "parallel/schedule.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "core/error.h"
#include "parallel/schedule_plan.h"
#include "tests/parallel/sample_programs.h"

using namespace trireme;
using Catch::Matchers::Contains;

namespace {

constexpr ActionKind F = ActionKind::forward, B = ActionKind::backward;
constexpr ActionKind I = ActionKind::backward_input, W = ActionKind::backward_weight;

ScheduleProgram program_of(std::vector<std::vector<Action>> ranks, int micro_batches) {
    ScheduleProgram program;
    program.stages = static_cast<int>(ranks.size());
    program.micro_batches = micro_batches;
    program.ranks = std::move(ranks);
    return program;
}

void check_plan(const ScheduleProgram& program, int rank) {
    const RankPlan plan = plan_rank(program, rank);
    const int peak = peak_live_activations(program)[static_cast<size_t>(rank)];
    int all_slots = 0;
    for (int slots : plan.slots) {
        all_slots += slots;
        REQUIRE(slots <= peak);
    }
    REQUIRE(all_slots >= peak);

    // What each slot and each buffer holds as the steps go by; -1: nothing.
    std::vector<std::vector<int>> slots;
    for (int n : plan.slots) slots.emplace_back(n, -1);
    std::vector<int> buffers(static_cast<size_t>(plan.buffers), -1);
    std::map<bool, std::vector<int>> arriving;  // buffers in order of posting, by kind
    std::vector<bool> had_last(static_cast<size_t>(program.chunks), false);
    size_t next_receive = 0;
    for (const RankPlan::Step& step : plan.steps) {
        const Action& action = step.action;
        const bool forward = action.kind == F;
        REQUIRE(static_cast<size_t>(step.first_receive) == next_receive);
        for (int i = 0; i < step.n_receives; ++i, ++next_receive) {
            const RankPlan::Receive& receive = plan.receives[next_receive];
            int& holds = buffers.at(static_cast<size_t>(receive.buffer));
            REQUIRE(holds == -1);
            holds = 1;
            arriving[receive.is_gradient].push_back(receive.buffer);
        }
        if (step.receives_from != RankPlan::kNone) {
            auto& queue = arriving[!forward];
            REQUIRE_FALSE(queue.empty());
            REQUIRE(queue.front() == (forward ? step.input : step.output_gradient));
            queue.erase(queue.begin());
        }
        REQUIRE((step.input == RankPlan::kNone) ==
                (program.virtual_stage(rank, action.chunk) == 0));
        int& slot = slots[static_cast<size_t>(action.chunk)].at(static_cast<size_t>(step.slot));
        REQUIRE(slot == (forward ? -1 : action.micro_batch));
        slot = ends_slot(action.kind) ? -1 : action.micro_batch;
        REQUIRE_FALSE(had_last[static_cast<size_t>(action.chunk)]);
        if (step.last) had_last[static_cast<size_t>(action.chunk)] = true;

        if (step.result != RankPlan::kNone) {
            int& holds = buffers.at(static_cast<size_t>(step.result));
            REQUIRE(step.result != step.input);
            REQUIRE(step.result != step.output_gradient);
            REQUIRE(holds == -1);
            if (step.sends_to == RankPlan::kNone) holds = 1;
        }
        if (step.output_gradient != RankPlan::kNone) {
            buffers[static_cast<size_t>(step.output_gradient)] = -1;
        }
        if (ends_slot(action.kind) && step.input != RankPlan::kNone) {
            buffers[static_cast<size_t>(step.input)] = -1;
        }
    }
    REQUIRE(next_receive == plan.receives.size());
    for (int holds : buffers) REQUIRE(holds == -1);
    for (bool last : had_last) REQUIRE(last);
}

}  // namespace

TEST_CASE("gpipe and 1f1b are valid within their memory for all small sizes",
          "[parallel][schedule]") {
    for (int stages = 1; stages <= 8; ++stages) {
        for (int micro_batches = 1; micro_batches <= 32; ++micro_batches) {
            for (const char* name : {"gpipe", "1f1b"}) {
                CAPTURE(name, stages, micro_batches);
                const ScheduleProgram program = make_schedule(name, stages, 1, micro_batches);
                REQUIRE(find_schedule_error(program) == "");
                const std::vector<int> peaks = peak_live_activations(program);
                for (int rank = 0; rank < stages; ++rank) {
                    const bool gpipe = std::string(name) == "gpipe";
                    REQUIRE(peaks[static_cast<size_t>(rank)] ==
                            (gpipe ? micro_batches : std::min(micro_batches, stages - rank)));
                    check_plan(program, rank);
                }
            }
        }
    }
}

TEST_CASE("programs with weight halves and several chunks are valid", "[parallel][schedule]") {
    for (int stages = 1; stages <= 5; ++stages) {
        for (int micro_batches = 1; micro_batches <= 9; ++micro_batches) {
            for (int chunks = 1; chunks <= 3; ++chunks) {
                for (Placement placement : {Placement::loop, Placement::vee}) {
                    CAPTURE(stages, micro_batches, chunks, placement == Placement::vee);
                    const ScheduleProgram program =
                        depth_first_program(stages, chunks, micro_batches, placement);
                    REQUIRE(find_schedule_error(program) == "");
                    for (int rank = 0; rank < stages; ++rank) check_plan(program, rank);
                }
            }
            const ScheduleProgram split = split_1f1b_program(stages, micro_batches);
            CAPTURE(stages, micro_batches);
            REQUIRE(find_schedule_error(split) == "");
            for (int rank = 0; rank < stages; ++rank) check_plan(split, rank);
        }
    }
}

TEST_CASE("a slot is held until the weight half is done", "[parallel][schedule]") {
    const ScheduleProgram program =
        program_of({{{F, 0, 0}, {I, 0, 0}, {F, 0, 1}, {W, 0, 0}, {I, 0, 1}, {W, 0, 1}}}, 2);
    REQUIRE(find_schedule_error(program) == "");
    REQUIRE(peak_live_activations(program) == std::vector<int>{2});
    REQUIRE(plan_rank(program, 0).slots == std::vector<int>{2});
}

TEST_CASE("1f1b keeps few buffers between stages", "[parallel][schedule]") {
    const ScheduleProgram program = make_schedule("1f1b", 4, 1, 32);
    // Two gradients in; two activations out.
    REQUIRE(plan_rank(program, 0).buffers == 4);
    // Three live and one ahead; two gradients in, two of each kind out.
    REQUIRE(plan_rank(program, 1).buffers == 10);
    REQUIRE(plan_rank(program, 3).buffers == 2 + 2);
}

TEST_CASE("each rule that a schedule can break is named", "[parallel][schedule]") {
    const auto error = [](std::vector<std::vector<Action>> ranks, int micro_batches) {
        return find_schedule_error(program_of(std::move(ranks), micro_batches));
    };
    // Sizes.
    REQUIRE_THAT(error({{}}, 0), Contains("at least one stage, one chunk and one micro-batch"));
    ScheduleProgram short_program = make_schedule("1f1b", 2, 1, 1);
    short_program.ranks.pop_back();
    REQUIRE_THAT(find_schedule_error(short_program), Contains("found 1 for 2 stages"));
    // Known numbers.
    REQUIRE_THAT(error({{{F, 1, 0}, {B, 1, 0}}}, 1),
                 Contains("rank 0, action 0: forward of micro-batch 0 on chunk 1: unknown chunk"));
    REQUIRE_THAT(error({{{F, -1, 0}, {B, 0, 0}}}, 1), Contains("unknown chunk"));
    REQUIRE_THAT(error({{{F, 0, 0}, {B, 0, 0}, {F, 0, 1}}}, 1), Contains("unknown micro-batch"));
    // Completeness.
    REQUIRE_THAT(error({{{F, 0, 1}, {B, 0, 1}}}, 2),
                 Contains("forward of micro-batch 0 on chunk 0 is missing"));
    REQUIRE_THAT(error({{{F, 0, 0}}}, 1),
                 Contains("backward of micro-batch 0 on chunk 0 is missing"));
    REQUIRE_THAT(error({{{F, 0, 0}, {I, 0, 0}}}, 1),
                 Contains("backward_weight of micro-batch 0 on chunk 0 is missing"));
    REQUIRE_THAT(error({{{F, 0, 0}, {F, 0, 0}, {B, 0, 0}}}, 1), Contains("is there twice"));
    REQUIRE_THAT(error({{{F, 0, 0}, {B, 0, 0}, {B, 0, 0}}}, 1),
                 Contains("its backward is there twice"));
    REQUIRE_THAT(error({{{F, 0, 0}, {I, 0, 0}, {B, 0, 0}}}, 1),
                 Contains("its backward is there twice"));
    REQUIRE_THAT(error({{{F, 0, 0}, {B, 0, 0}, {W, 0, 0}}}, 1),
                 Contains("its weight half is there twice"));
    // Order on a rank.
    REQUIRE_THAT(error({{{B, 0, 0}, {F, 0, 0}}}, 1), Contains("comes before its forward"));
    REQUIRE_THAT(error({{{F, 0, 0}, {W, 0, 0}, {I, 0, 0}}}, 1),
                 Contains("comes before its backward_input"));
    ScheduleProgram two_chunks = program_of({{{F, 1, 0}, {F, 0, 0}, {B, 1, 0}, {B, 0, 0}}}, 1);
    two_chunks.chunks = 2;
    REQUIRE_THAT(find_schedule_error(two_chunks), Contains("before this rank has made"));
    two_chunks.ranks = {{{F, 0, 0}, {F, 1, 0}, {B, 0, 0}, {B, 1, 0}}};
    REQUIRE_THAT(find_schedule_error(two_chunks), Contains("before this rank has made"));
    // Order between ranks.
    REQUIRE_THAT(error({{{F, 0, 0}, {F, 0, 1}, {B, 0, 0}, {B, 0, 1}},
                        {{F, 0, 1}, {F, 0, 0}, {B, 0, 0}, {B, 0, 1}}},
                       2),
                 Contains("ranks 0 and 1 order their transfers differently: activation number 0"));
    REQUIRE_THAT(error({{{F, 0, 0}, {F, 0, 1}, {B, 0, 0}, {B, 0, 1}},
                        {{F, 0, 0}, {F, 0, 1}, {B, 0, 1}, {B, 0, 0}}},
                       2),
                 Contains("ranks 1 and 0 order their transfers differently: gradient number 0"));
    // Deadlock.
    const std::string deadlock = error({{{F, 0, 0}, {B, 0, 0}, {F, 0, 1}, {B, 0, 1}},
                                        {{F, 0, 0}, {F, 0, 1}, {B, 0, 0}, {B, 0, 1}}},
                                       2);
    REQUIRE_THAT(deadlock, Contains("deadlock: rank 0, action 1: backward of micro-batch 0"));
    REQUIRE_THAT(deadlock, Contains("rank 1, action 1: forward of micro-batch 1 on chunk 0 waits "
                                    "for the activation of virtual stage 0 (rank 0)"));
}

TEST_CASE("a schedule that needs sends to be buffered is a deadlock", "[parallel][schedule]") {
    // All forwards chunk by chunk: the last rank's first results wait for a rank 0 that is still
    // waiting to be rid of its own.
    ScheduleProgram program = breadth_first_program(2, 2, 9);
    REQUIRE_THAT(find_schedule_error(program), Contains("until its last activation is received"));
    program = breadth_first_program(2, 2, 2);
    REQUIRE(find_schedule_error(program) == "");
}

TEST_CASE("an unknown schedule is a configuration error", "[parallel][schedule]") {
    const auto code = [](const char* name, int stages, int chunks, int micro_batches) {
        try {
            make_schedule(name, stages, chunks, micro_batches);
        } catch (const Error& error) {
            return error.code();
        }
        return ExitCode::ok;
    };
    REQUIRE(code("zigzag", 2, 1, 2) == ExitCode::config);
    REQUIRE(code("1f1b", 2, 2, 2) == ExitCode::config);
    REQUIRE(code("gpipe", 2, 1, 0) == ExitCode::config);
    REQUIRE(code("gpipe", 2, 1, 1) == ExitCode::ok);
    REQUIRE_THROWS_WITH(make_schedule("zigzag", 2, 1, 2), Contains("'zigzag' is unknown"));
}
