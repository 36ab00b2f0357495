#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

#include "core/error.h"
#include "parallel/schedule_families.h"
#include "parallel/schedule_simulator.h"

namespace trireme {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// How ranks choose what to do next.
struct Rules {
    std::vector<int> ahead;      // of each rank: most forwards done whose input half is not
    bool forward_first = false;  // when an input half could be done as well
    bool makes_room = false;     // a forward that lacks only memory gets it from a weight half
    // A weight half may hold up what is known to come by this share of its own length.
    double tolerated_delay = 0.0;
};

// Lets all ranks work side by side; each takes up what is there as soon as it is free, and fills
// waiting time with weight halves.
class ListScheduling {
public:
    ListScheduling(int stages, int micro_batches, const StageCosts& costs, int memory_cap,
                   const Rules& rules)
        : costs_(costs),
          memory_cap_(memory_cap),
          rules_(rules),
          program_{stages, 1, micro_batches, Placement::loop, {}} {
        program_.ranks.resize(static_cast<size_t>(stages));
        for (std::vector<Action>& actions : program_.ranks) {
            ranks_.emplace_back(ActionList(actions, 1, micro_batches), micro_batches);
        }
        std::fill(ranks_.front().inputs.begin(), ranks_.front().inputs.end(), 0.0);
    }

    ScheduleProgram run() {
        for (int rank = 0; rank < program_.stages; ++rank) events_.push({0.0, rank});
        while (!events_.empty()) {
            const Event event = events_.top();
            events_.pop();
            if (ranks_[static_cast<size_t>(event.rank)].free_from <= event.time) {
                work(event.rank, event.time);
            }
        }
        for (const Rank& rank : ranks_) {
            TRIREME_CHECK(rank.actions.all(ActionKind::backward_weight), "a complete program");
        }
        return std::move(program_);
    }

private:
    struct Rank {
        Rank(ActionList list, int micro_batches)
            : actions(list),
              inputs(static_cast<size_t>(micro_batches), kNever),
              gradients(static_cast<size_t>(micro_batches), kNever) {}
        ActionList actions;
        double free_from = 0.0;
        std::vector<double> inputs, gradients;  // when each is there, as far as is known
    };
    // A moment at which a rank may find something to do.
    struct Event {
        double time = 0.0;
        int rank = 0;
        bool operator>(const Event& other) const {
            return time != other.time ? time > other.time : rank > other.rank;
        }
    };

    void work(int rank, double now) {
        Rank& own = ranks_[static_cast<size_t>(rank)];
        const int forwards = own.actions.count(ActionKind::forward);
        const int inputs = own.actions.count(ActionKind::backward_input);
        const int weights = own.actions.count(ActionKind::backward_weight);

        const bool in_turn = !own.actions.all(ActionKind::forward) &&
                             forwards - inputs < rules_.ahead[static_cast<size_t>(rank)];
        const bool has_room = forwards - weights < memory_cap_;
        const double input = in_turn ? own.inputs[static_cast<size_t>(forwards)] : kNever;
        const double gradient =
            inputs < forwards ? own.gradients[static_cast<size_t>(inputs)] : kNever;

        const bool can_forward = input <= now && has_room;
        if (gradient <= now && !(can_forward && rules_.forward_first)) {
            return perform(rank, ActionKind::backward_input, now);
        }
        if (can_forward) return perform(rank, ActionKind::forward, now);
        if (weights == inputs) return;
        const double next_work = std::min(gradient, has_room ? input : kNever);
        const double limit = next_work + rules_.tolerated_delay * costs_.backward_weight;
        if (now + costs_.backward_weight <= limit ||
            (rules_.makes_room && input <= now && !has_room)) {
            perform(rank, ActionKind::backward_weight, now);
        }
    }

    void perform(int rank, ActionKind kind, double now) {
        Rank& own = ranks_[static_cast<size_t>(rank)];
        const size_t micro_batch = static_cast<size_t>(own.actions.count(kind));
        own.actions.add(kind);
        own.free_from = now + duration_of(kind, costs_);
        events_.push({own.free_from, rank});

        const double there = own.free_from + costs_.transfer;
        const bool is_last = rank + 1 == program_.stages;
        if (kind == ActionKind::forward && is_last) {
            own.gradients[micro_batch] = own.free_from;
        } else if (kind == ActionKind::forward) {
            ranks_[static_cast<size_t>(rank + 1)].inputs[micro_batch] = there;
            events_.push({there, rank + 1});
        } else if (kind == ActionKind::backward_input && rank > 0) {
            ranks_[static_cast<size_t>(rank - 1)].gradients[micro_batch] = there;
            events_.push({there, rank - 1});
        }
    }

    const StageCosts& costs_;
    const int memory_cap_;
    const Rules& rules_;
    ScheduleProgram program_;
    std::vector<Rank> ranks_;
    std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

// Keeps the best of the programs that fit.
class Choice {
public:
    Choice(const StageCosts& costs, int memory_cap) : costs_(costs), memory_cap_(memory_cap) {}

    void offer(ScheduleProgram program) {
        const Simulation result = simulate(program, costs_);
        for (const Simulation::RankTimes& rank : result.ranks) {
            if (rank.peak_activations > memory_cap_) return;
        }
        // Sums of the same numbers in another order must not look like a gain.
        const double least_gain = 1e-9 * result.makespan;
        const bool is_shorter = makespan_ - result.makespan > least_gain;
        const bool is_as_short = makespan_ - result.makespan >= -least_gain;
        if (!is_shorter && !(is_as_short && cost_ - result.cost > least_gain)) return;
        if (!find_schedule_error(program).empty()) return;
        best_ = std::move(program);
        makespan_ = result.makespan;
        cost_ = result.cost;
    }
    ScheduleProgram best() && {
        TRIREME_CHECK(makespan_ < kNever, "a program that fits");
        return std::move(best_);
    }

private:
    const StageCosts& costs_;
    const int memory_cap_;
    ScheduleProgram best_;
    double makespan_ = kNever, cost_ = kNever;
};

void check_costs(const StageCosts& costs, int memory_cap) {
    const auto is_cost = [](double cost) { return std::isfinite(cost) && cost >= 0.0; };
    if (!is_cost(costs.forward) || !is_cost(costs.backward_input) ||
        !is_cost(costs.backward_weight) || !is_cost(costs.transfer) ||
        costs.forward + costs.backward_input + costs.backward_weight <= 0.0) {
        throw Error(ExitCode::config,
                    "pipeline schedule 'zb-auto': expected costs of at least 0, and not all 0");
    }
    if (memory_cap < 1) {
        throw Error(ExitCode::config, "pipeline schedule 'zb-auto': found memory_cap " +
                                          std::to_string(memory_cap) +
                                          ", expected at least one live activation");
    }
}

}  // namespace

ScheduleProgram search_schedule(int stages, int micro_batches, const StageCosts& costs,
                                int memory_cap) {
    const int cap = memory_cap == 0 ? stages : memory_cap;
    check_costs(costs, cap);
    Choice choice(costs, cap);
    choice.offer(one_forward_one_backward(stages, micro_batches));
    choice.offer(zero_bubble_h1(stages, micro_batches));
    choice.offer(zero_bubble_h2(stages, micro_batches));
    choice.offer(gpipe_schedule(stages, micro_batches));

    // From as few forwards ahead as fill the pipeline up to as many as there is memory for.
    constexpr int kWidths = 8;
    for (int width = 0; width <= kWidths; ++width) {
        Rules rules;
        for (int rank = 0; rank < stages; ++rank) {
            const int least = std::min(stages - rank, cap);
            rules.ahead.push_back(least + (cap - least) * width / kWidths);
        }
        for (const bool forward_first : {false, true}) {
            for (const bool makes_room : {false, true}) {
                for (const double tolerated_delay : {0.0, 0.5, 1.0}) {
                    rules.forward_first = forward_first;
                    rules.makes_room = makes_room;
                    rules.tolerated_delay = tolerated_delay;
                    choice.offer(ListScheduling(stages, micro_batches, costs, cap, rules).run());
                }
            }
        }
    }
    return std::move(choice).best();
}

}  // namespace trireme
