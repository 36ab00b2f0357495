#include "parallel/schedule_simulator.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace trireme {

namespace {

// Ranks go on in turn for as long as their next action has what it needs; each action's time then
// follows from times that are known, so the order of the ranks does not matter.
class Player {
public:
    Player(const ScheduleProgram& program, const ActionDuration& duration, double transfer)
        : program_(program),
          duration_(duration),
          transfer_(transfer),
          next_(program.ranks.size()),
          activations_(places(), kUnknown),
          gradients_(places(), kUnknown) {
        result_.actions.resize(program.ranks.size());
        result_.ranks.resize(program.ranks.size());
    }

    Simulation run() {
        bool progress = true;
        while (progress) {
            progress = false;
            for (int rank = 0; rank < program_.stages; ++rank) {
                while (step(rank)) progress = true;
            }
        }
        summarise();
        return std::move(result_);
    }

private:
    static constexpr double kUnknown = std::numeric_limits<double>::infinity();

    size_t places() const {
        return static_cast<size_t>(program_.virtual_stages()) *
               static_cast<size_t>(program_.micro_batches);
    }
    double& made(MessageKind kind, int stage, int micro_batch) {
        std::vector<double>& times = kind == MessageKind::gradient ? gradients_ : activations_;
        return times[static_cast<size_t>(stage) * static_cast<size_t>(program_.micro_batches) +
                     static_cast<size_t>(micro_batch)];
    }

    bool step(int rank) {
        const size_t r = static_cast<size_t>(rank);
        if (next_[r] == program_.ranks[r].size()) return false;
        const Action& action = program_.ranks[r][next_[r]];
        const MessageKind kind = message_of(action.kind);
        Simulation::RankTimes& times = result_.ranks[r];
        double begin = times.last_end;
        if (const int source = program_.source_of(rank, action); source >= 0) {
            double there = made(kind, source, action.micro_batch);
            if (there == kUnknown) return false;
            if (program_.rank_of(source) != rank) there += transfer_;
            begin = std::max(begin, there);
        }
        const double takes = duration_(rank, action);
        const double end = begin + takes;
        if (action.kind != ActionKind::backward_weight) {
            made(kind, program_.virtual_stage(rank, action.chunk), action.micro_batch) = end;
        }
        if (next_[r] == 0) times.first_begin = begin;
        times.last_end = end;
        times.busy += takes;
        result_.actions[r].push_back({action, begin, end});
        ++next_[r];
        return true;
    }

    void summarise() {
        const std::vector<int> peaks = peak_live_activations(program_);
        double busy = 0.0;
        for (size_t r = 0; r < result_.ranks.size(); ++r) {
            TRIREME_CHECK(next_[r] == program_.ranks[r].size(), "a program without deadlock");
            Simulation::RankTimes& times = result_.ranks[r];
            times.peak_activations = peaks[r];
            result_.makespan = std::max(result_.makespan, times.last_end);
            result_.cost = std::max(result_.cost, times.last_end - times.first_begin);
            busy += times.busy / static_cast<double>(result_.ranks.size());
        }
        for (Simulation::RankTimes& times : result_.ranks) {
            times.bubble = result_.makespan - times.busy;
        }
        if (result_.cost > 0.0) result_.bubble_rate = (result_.cost - busy) / result_.cost;
    }

    const ScheduleProgram& program_;
    const ActionDuration& duration_;
    const double transfer_;
    std::vector<size_t> next_;                     // each rank's next action
    std::vector<double> activations_, gradients_;  // when each virtual stage has made them
    Simulation result_;
};

}  // namespace

Simulation simulate(const ScheduleProgram& program, const ActionDuration& duration,
                    double transfer) {
    return Player(program, duration, transfer).run();
}

Simulation simulate(const ScheduleProgram& program, const StageCosts& costs) {
    const auto duration = [&](int, const Action& action) {
        return duration_of(action.kind, costs);
    };
    return simulate(program, duration, costs.transfer);
}

double duration_of(ActionKind kind, const StageCosts& costs) {
    switch (kind) {
        case ActionKind::forward:
            return costs.forward;
        case ActionKind::backward:
            return costs.backward_input + costs.backward_weight;
        case ActionKind::backward_input:
            return costs.backward_input;
        case ActionKind::backward_weight:
            return costs.backward_weight;
    }
    return 0.0;
}

StageCosts costs_of_chunk(const StageCosts& of_rank, int chunks) {
    return {of_rank.forward / chunks, of_rank.backward_input / chunks,
            of_rank.backward_weight / chunks, of_rank.transfer};
}

}  // namespace trireme
