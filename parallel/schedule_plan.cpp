#include "parallel/schedule_plan.h"

#include <algorithm>
#include <map>
#include <utility>

namespace trireme {

namespace {

// Hands out the lowest free number, a new one when all are taken.
class NumberPool {
public:
    int take() {
        const auto free = std::find(taken_.begin(), taken_.end(), false);
        if (free == taken_.end()) {
            taken_.push_back(true);
            return static_cast<int>(taken_.size()) - 1;
        }
        *free = true;
        return static_cast<int>(free - taken_.begin());
    }
    void give_back(int number) { taken_[static_cast<size_t>(number)] = false; }
    int size() const { return static_cast<int>(taken_.size()); }

private:
    std::vector<bool> taken_;
};

// Buffers of one purpose, numbered among all the rank's buffers as they come into being.
class BufferPool {
public:
    explicit BufferPool(int& buffers) : buffers_(buffers) {}

    int take() {
        const int place = places_.take();
        if (static_cast<size_t>(place) == ids_.size()) ids_.push_back(buffers_++);
        return ids_[static_cast<size_t>(place)];
    }
    // False when the buffer is of another pool.
    bool give_back(int buffer) {
        const auto found = std::find(ids_.begin(), ids_.end(), buffer);
        if (found == ids_.end()) return false;
        places_.give_back(static_cast<int>(found - ids_.begin()));
        return true;
    }
    std::array<int, 2> first_two() {
        while (ids_.size() < 2) ids_.push_back(buffers_++);
        return {ids_[0], ids_[1]};
    }

private:
    int& buffers_;
    NumberPool places_;
    std::vector<int> ids_;
};

// Activations or gradients: what arrives, what leaves, what stays on the rank.
class Flow {
public:
    Flow(MessageKind kind, int receives_ahead, RankPlan& plan)
        : kind_(kind),
          receives_ahead_(static_cast<size_t>(receives_ahead)),
          plan_(plan),
          in_(plan.buffers),
          local_(plan.buffers) {}

    // In program order: a step will need the result of (chunk, micro-batch) from another rank.
    void expect(int chunk, int micro_batch, int peer) {
        expected_.push_back({{chunk, micro_batch}, peer});
    }

    void post_receives(bool step_receives) {
        const size_t wanted = consumed_ + (step_receives ? 1 : 0) + receives_ahead_;
        for (; posted_ < std::min(wanted, expected_.size()); ++posted_) {
            const Expected& next = expected_[posted_];
            const int buffer = in_.take();
            inputs_[next.key] = buffer;
            plan_.receives.push_back({kind_, buffer, next.peer});
        }
        if (step_receives) ++consumed_;
    }

    // The buffer that holds what (chunk, micro-batch) was given.
    int input(int chunk, int micro_batch) const {
        const auto found = inputs_.find({chunk, micro_batch});
        return found == inputs_.end() ? RankPlan::kNone : found->second;
    }
    void release(int chunk, int micro_batch) {
        const auto found = inputs_.find({chunk, micro_batch});
        if (found == inputs_.end()) return;
        if (!in_.give_back(found->second)) local_.give_back(found->second);
        inputs_.erase(found);
    }

    int take_to_send(int peer) {
        const std::array<int, 2> pair = out(peer);
        return pair[static_cast<size_t>(sent_[peer]++ % 2)];
    }
    int take_to_hand_over(int chunk, int micro_batch) {
        return inputs_[{chunk, micro_batch}] = local_.take();
    }

    BufferPool& in() { return in_; }
    BufferPool& local() { return local_; }
    std::array<int, 2> out(int peer) {
        return out_.try_emplace(peer, plan_.buffers).first->second.first_two();
    }

private:
    using Key = std::pair<int, int>;  // chunk, micro-batch
    struct Expected {
        Key key;
        int peer = RankPlan::kNone;
    };

    MessageKind kind_;
    size_t receives_ahead_;
    RankPlan& plan_;
    BufferPool in_, local_;
    std::map<int, BufferPool> out_;  // by the receiving rank
    std::map<int, int> sent_;
    std::vector<Expected> expected_;
    size_t posted_ = 0, consumed_ = 0;
    std::map<Key, int> inputs_;
};

void plan_forward_buffers(const ScheduleProgram& program, int rank, Flow& activations,
                          RankPlan& plan) {
    for (int chunk = 0; chunk < program.chunks; ++chunk) {
        const Action forward{ActionKind::forward, chunk, 0};
        const int source = program.source_of(rank, forward);
        const int target = program.target_of(rank, forward);
        if (source >= 0) {
            if (program.rank_of(source) == rank) {
                plan.forward_local = activations.local().first_two();
            } else {
                plan.forward_in = activations.in().first_two();
            }
        }
        if (target >= 0 && program.rank_of(target) != rank) {
            plan.forward_out = activations.out(program.rank_of(target));
        }
    }
}

}  // namespace

RankPlan plan_rank(const ScheduleProgram& program, int rank) {
    RankPlan plan;
    const auto make_flow = [&](MessageKind kind) {
        return Flow(kind, program.receives_ahead(rank, kind), plan);
    };
    Flow activations = make_flow(MessageKind::activation);
    Flow gradients = make_flow(MessageKind::gradient);
    std::vector<NumberPool> slots(static_cast<size_t>(program.chunks));
    std::map<std::pair<int, int>, int> slot_of;
    std::vector<size_t> last_step(static_cast<size_t>(program.chunks));

    const auto flow_of = [&](const Action& action) -> Flow& {
        return message_of(action.kind) == MessageKind::activation ? activations : gradients;
    };
    for (const Action& action : program.ranks[static_cast<size_t>(rank)]) {
        RankPlan::Step& step = plan.steps.emplace_back();
        step.action = action;
        if (ends_slot(action.kind)) {
            last_step[static_cast<size_t>(action.chunk)] = plan.steps.size() - 1;
        }
        const int source = program.source_of(rank, action);
        if (source < 0 || program.rank_of(source) == rank) continue;
        step.receives_from = program.rank_of(source);
        flow_of(action).expect(action.chunk, action.micro_batch, step.receives_from);
    }

    for (RankPlan::Step& step : plan.steps) {
        const Action& action = step.action;
        const bool is_forward = action.kind == ActionKind::forward;
        const bool receives = step.receives_from != RankPlan::kNone;
        step.first_receive = static_cast<int>(plan.receives.size());
        activations.post_receives(receives && is_forward);
        gradients.post_receives(receives && !is_forward);
        step.n_receives = static_cast<int>(plan.receives.size()) - step.first_receive;

        NumberPool& chunk_slots = slots[static_cast<size_t>(action.chunk)];
        const std::pair<int, int> key{action.chunk, action.micro_batch};
        if (is_forward) slot_of[key] = chunk_slots.take();
        step.slot = slot_of.at(key);
        step.input = activations.input(action.chunk, action.micro_batch);
        if (passes_gradient(action.kind)) {
            step.output_gradient = gradients.input(action.chunk, action.micro_batch);
        }

        const int target = program.target_of(rank, action);
        if (target >= 0) {
            if (program.rank_of(target) == rank) {
                step.result =
                    flow_of(action).take_to_hand_over(target / program.stages, action.micro_batch);
            } else {
                step.sends_to = program.rank_of(target);
                step.result = flow_of(action).take_to_send(step.sends_to);
            }
        }
        if (passes_gradient(action.kind)) gradients.release(action.chunk, action.micro_batch);
        if (ends_slot(action.kind)) {
            activations.release(action.chunk, action.micro_batch);
            chunk_slots.give_back(step.slot);
        }
    }
    for (int chunk = 0; chunk < program.chunks; ++chunk) {
        plan.steps[last_step[static_cast<size_t>(chunk)]].last = true;
        plan.slots.push_back(slots[static_cast<size_t>(chunk)].size());
    }
    plan_forward_buffers(program, rank, activations, plan);
    return plan;
}

}  // namespace trireme
