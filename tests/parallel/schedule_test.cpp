#include "parallel/schedule.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "parallel/schedule_plan.h"
#include "tests/parallel/plan_check.h"
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

}  // namespace

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
    REQUIRE_THAT(find_schedule_error(program),
                 Contains("until its last activation to rank 1 is received"));
    program = breadth_first_program(2, 2, 2);
    REQUIRE(find_schedule_error(program) == "");
}

TEST_CASE("a deadlock counts what receivers post ahead and what goes to other neighbours",
          "[parallel][schedule]") {
    ScheduleProgram program = breadth_first_program(2, 2, 9);
    program.wrap_receives_ahead = 5;
    REQUIRE(find_schedule_error(program) == "");
    program.wrap_receives_ahead = 4;
    REQUIRE_THAT(find_schedule_error(program), Contains("deadlock"));
    program.wrap_receives_ahead = 0;
    REQUIRE_THAT(find_schedule_error(program), Contains("at least one ahead"));
    // Rank 1 sends activations to both sides, and one to rank 2 waits for those to rank 0.
    REQUIRE(find_schedule_error(make_schedule("zb-v", 3, 2, 6)) == "");
}

TEST_CASE("an error names actions as its caller does", "[parallel][schedule]") {
    const auto name = [](int rank, size_t index) {
        return "cell " + std::to_string(rank) + "/" + std::to_string(index);
    };
    REQUIRE_THAT(find_schedule_error(program_of({{{B, 0, 0}, {F, 0, 0}}}, 1), name),
                 Contains("cell 0/0: backward of micro-batch 0"));
    const ScheduleProgram deadlock = program_of({{{F, 0, 0}, {B, 0, 0}, {F, 0, 1}, {B, 0, 1}},
                                                 {{F, 0, 0}, {F, 0, 1}, {B, 0, 0}, {B, 0, 1}}},
                                                2);
    REQUIRE_THAT(find_schedule_error(deadlock, name), Contains("deadlock: cell 0/1: backward"));
}

TEST_CASE("sizes that a schedule cannot serve are configuration errors", "[parallel][schedule]") {
    struct Case {
        PipelineOptions options;
        int stages, micro_batches;
        const char* message;
    };
    const auto options = [](const char* name, int chunks) {
        PipelineOptions result;
        result.schedule = name;
        result.virtual_stages = chunks;
        return result;
    };
    const auto group = [&](int micro_batches) {
        PipelineOptions result = options("interleaved", 2);
        result.micro_batch_group = micro_batches;
        return result;
    };
    PipelineOptions no_memory = options("zb-auto", 1), no_costs = options("zb-auto", 1);
    no_memory.memory_cap = -1;
    no_costs.costs = {0.0, 0.0, 0.0, 1.0};
    PipelineOptions bad_costs = options("zb-auto", 1);
    bad_costs.costs.backward_weight = -1.0;
    const std::vector<Case> cases{
        {options("zigzag", 1), 2, 2, "'zigzag' is unknown; expected gpipe, 1f1b, interleaved, "},
        {options("gpipe", 1), 2, 0, "over 2 stages and 0 micro-batches"},
        {options("zb-h1", 1), 0, 2, "over 0 stages"},
        {options("1f1b", 2), 2, 2,
         "runs one virtual stage a rank, found 2; set virtual_stages to 1"},
        {options("zb-h1", 2), 2, 2, "set virtual_stages to 1"},
        {options("zb-h2", 2), 2, 2, "set virtual_stages to 1"},
        {options("zb-auto", 2), 2, 2, "set virtual_stages to 1"},
        {options("zb-v", 1), 2, 4,
         "runs 2 virtual stages a rank, found 1; set virtual_stages to 2"},
        {options("zb-v", 3), 2, 4, "set virtual_stages to 2"},
        {options("interleaved", 0), 2, 4, "set virtual_stages to at least 1"},
        {options("interleaved", 2), 4, 3, "expected at least as many micro-batches as stages"},
        {options("interleaved", 2), 4, 7, "groups of 4 leave a last one of 3"},
        {group(3), 4, 8, "found micro_batch_group 3, expected at least the stages"},
        {group(9), 4, 8, "found micro_batch_group 9"},
        {group(-1), 4, 8, "found micro_batch_group -1"},
        {group(6), 4, 8, "groups of 6 leave a last one of 2"},
        {no_memory, 2, 4, "found memory_cap -1"},
        {no_costs, 2, 4, "expected costs of at least 0, and not all 0"},
        {bad_costs, 2, 4, "expected costs of at least 0"},
        {options("file:no/such/file", 1), 2, 4, "no/such/file: cannot be read: No such file"},
        {options("file:", 1), 2, 4, "cannot be read"},
    };
    for (const Case& c : cases) {
        CAPTURE(c.options.schedule, c.message);
        try {
            make_schedule(c.options, c.stages, c.micro_batches);
            FAIL("no error");
        } catch (const Error& error) {
            REQUIRE(error.code() == ExitCode::config);
            REQUIRE_THAT(error.what(), Contains(c.message));
        }
    }
    REQUIRE_NOTHROW(make_schedule("interleaved", 4, 2, 8));
    REQUIRE_NOTHROW(make_schedule(group(5), 4, 9));
}
