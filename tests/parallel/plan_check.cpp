#include "tests/parallel/plan_check.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <utility>

#include "parallel/schedule_plan.h"

namespace trireme {

namespace {

// One assertion of the test framework for each is too slow for all the programs there are.
void expect(bool condition, const char* what) {
    if (condition) return;
    CAPTURE(what);
    REQUIRE(condition);
}

// Of one kind: everything the rank receives, and how far it has come.
struct Arrivals {
    size_t expected = 0, posted = 0, used = 0;
    std::vector<int> waiting;  // buffers, in order of posting
};

// The results that left for one neighbour, by buffer.
struct Departures {
    int last = RankPlan::kNone, before = RankPlan::kNone;
};

}  // namespace

void check_plan(const ScheduleProgram& program, int rank) {
    const RankPlan plan = plan_rank(program, rank);
    const int peak = peak_live_activations(program)[static_cast<size_t>(rank)];
    int all_slots = 0;
    for (int slots : plan.slots) {
        all_slots += slots;
        expect(slots <= peak, "no more slots than live activations");
    }
    expect(all_slots >= peak, "a slot for every live activation");

    // What each slot and each buffer holds as the steps go by; -1: nothing.
    std::vector<std::vector<int>> slots;
    for (int n : plan.slots) slots.emplace_back(n, -1);
    std::vector<int> buffers(static_cast<size_t>(plan.buffers), -1);
    std::vector<bool> had_last(static_cast<size_t>(program.chunks), false);
    std::map<MessageKind, Arrivals> arrivals;
    std::map<std::pair<MessageKind, int>, Departures> departures;  // and by receiving rank
    std::map<int, std::pair<MessageKind, int>> sends_of;           // by buffer
    for (const RankPlan::Step& step : plan.steps) {
        if (step.receives_from != RankPlan::kNone) {
            ++arrivals[message_of(step.action.kind)].expected;
        }
    }
    size_t next_receive = 0;
    for (const RankPlan::Step& step : plan.steps) {
        const Action& action = step.action;
        const bool forward = action.kind == ActionKind::forward;
        expect(static_cast<size_t>(step.first_receive) == next_receive, "receives in order");
        for (int i = 0; i < step.n_receives; ++i, ++next_receive) {
            const RankPlan::Receive& receive = plan.receives[next_receive];
            int& holds = buffers.at(static_cast<size_t>(receive.buffer));
            expect(holds == -1, "a free buffer to receive into");
            holds = 1;
            ++arrivals[receive.kind].posted;
            arrivals[receive.kind].waiting.push_back(receive.buffer);
        }
        if (step.receives_from != RankPlan::kNone) {
            Arrivals& own = arrivals[message_of(action.kind)];
            expect(!own.waiting.empty() &&
                       own.waiting.front() == (forward ? step.input : step.output_gradient),
                   "what was posted first to be needed first");
            own.waiting.erase(own.waiting.begin());
            ++own.used;
        }
        for (const MessageKind kind : {MessageKind::activation, MessageKind::gradient}) {
            const Arrivals& own = arrivals[kind];
            const size_t ahead = static_cast<size_t>(program.receives_ahead(rank, kind));
            expect(own.posted == std::min(own.expected, own.used + ahead),
                   "as many receives posted ahead as the program says");
        }
        expect((step.input == RankPlan::kNone) == (program.virtual_stage(rank, action.chunk) == 0),
               "an input on all but the first virtual stage");
        int& slot = slots[static_cast<size_t>(action.chunk)].at(static_cast<size_t>(step.slot));
        expect(slot == (forward ? -1 : action.micro_batch), "a free slot, or the forward's");
        slot = ends_slot(action.kind) ? -1 : action.micro_batch;
        expect(!had_last[static_cast<size_t>(action.chunk)], "no step of the chunk after its last");
        if (step.last) had_last[static_cast<size_t>(action.chunk)] = true;

        if (step.result != RankPlan::kNone) {
            int& holds = buffers.at(static_cast<size_t>(step.result));
            expect(step.result != step.input && step.result != step.output_gradient,
                   "a result apart from what it is made of");
            expect(holds == -1, "a free buffer for the result");
            if (step.sends_to == RankPlan::kNone) {
                holds = 1;
            } else {
                const std::pair<MessageKind, int> link{message_of(action.kind), step.sends_to};
                expect(sends_of.try_emplace(step.result, link).first->second == link,
                       "a buffer to send from for one kind and neighbour only");
                Departures& own = departures[link];
                expect(own.last != step.result, "not the buffer of the last send");
                expect(own.before == RankPlan::kNone || own.before == step.result,
                       "two buffers in turn");
                own.before = std::exchange(own.last, step.result);
            }
        }
        if (step.output_gradient != RankPlan::kNone) {
            buffers[static_cast<size_t>(step.output_gradient)] = -1;
        }
        if (ends_slot(action.kind) && step.input != RankPlan::kNone) {
            buffers[static_cast<size_t>(step.input)] = -1;
        }
    }
    expect(next_receive == plan.receives.size(), "every receive posted");
    for (int holds : buffers) expect(holds == -1, "no buffer held in the end");
    for (bool last : had_last) expect(last, "a last step of each chunk");
}

}  // namespace trireme
