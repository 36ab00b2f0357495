#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <tuple>

#include "parallel/schedule.h"

namespace trireme {

namespace {

std::string name_of(const Action& action) {
    return std::string(name_of(action.kind)) + " of micro-batch " +
           std::to_string(action.micro_batch) + " on chunk " + std::to_string(action.chunk);
}

std::string rank_and_action(int rank, size_t index) {
    return "rank " + std::to_string(rank) + ", action " + std::to_string(index);
}

std::string find_size_error(const ScheduleProgram& program) {
    if (program.stages < 1 || program.chunks < 1 || program.micro_batches < 1) {
        return "a program has at least one stage, one chunk and one micro-batch";
    }
    if (program.ranks.size() != static_cast<size_t>(program.stages)) {
        return "a program has one list of actions a stage: found " +
               std::to_string(program.ranks.size()) + " for " + std::to_string(program.stages) +
               " stages";
    }
    if (program.wrap_receives_ahead < 1) return "receives are posted at least one ahead";
    return {};
}

// Everything that one rank's list shows by itself: known numbers, each action once, in order.
std::string find_rank_error(const ScheduleProgram& program, int rank, const PlaceName& place_name) {
    struct Progress {
        bool forward = false, input = false, weight = false;
    };
    std::vector<Progress> all(static_cast<size_t>(program.chunks) *
                              static_cast<size_t>(program.micro_batches));
    const auto progress = [&](int chunk, int micro_batch) -> Progress& {
        return all[static_cast<size_t>(chunk) * static_cast<size_t>(program.micro_batches) +
                   static_cast<size_t>(micro_batch)];
    };
    const std::vector<Action>& actions = program.ranks[static_cast<size_t>(rank)];
    for (size_t i = 0; i < actions.size(); ++i) {
        const Action& action = actions[i];
        const auto here = [&] { return place_name(rank, i) + ": " + name_of(action); };
        if (action.chunk < 0 || action.chunk >= program.chunks) return here() + ": unknown chunk";
        if (action.micro_batch < 0 || action.micro_batch >= program.micro_batches) {
            return here() + ": unknown micro-batch";
        }
        const int source = program.source_of(rank, action);
        if (source >= 0 && program.rank_of(source) == rank) {
            const Progress& before = progress(source / program.stages, action.micro_batch);
            if (action.kind == ActionKind::forward ? !before.forward : !before.input) {
                return here() + " comes before this rank has made what it needs, on chunk " +
                       std::to_string(source / program.stages);
            }
        }
        Progress& done = progress(action.chunk, action.micro_batch);
        if (action.kind == ActionKind::forward) {
            if (done.forward) return here() + " is there twice";
            done.forward = true;
        } else if (passes_gradient(action.kind)) {
            if (done.input) return here() + ": its backward is there twice";
            if (!done.forward) return here() + " comes before its forward";
            done.input = true;
            done.weight = action.kind == ActionKind::backward;
        } else {
            if (done.weight) return here() + ": its weight half is there twice";
            if (!done.input) return here() + " comes before its backward_input";
            done.weight = true;
        }
    }
    for (int chunk = 0; chunk < program.chunks; ++chunk) {
        for (int i = 0; i < program.micro_batches; ++i) {
            const Progress& done = progress(chunk, i);
            const ActionKind missing = !done.forward ? ActionKind::forward
                                       : !done.input ? ActionKind::backward
                                                     : ActionKind::backward_weight;
            if (!done.weight) {
                return "rank " + std::to_string(rank) + ": the " +
                       name_of(Action{missing, chunk, i}) + " is missing";
            }
        }
    }
    return {};
}

constexpr MessageKind kMessageKinds[] = {MessageKind::activation, MessageKind::gradient};

template <typename T>
class ByMessageKind {
public:
    T& operator[](MessageKind kind) { return values_[static_cast<size_t>(kind)]; }

private:
    std::array<T, std::size(kMessageKinds)> values_{};
};

// What travels: the result of `stage` for a micro-batch.
struct Message {
    int stage = 0;
    int micro_batch = 0;
    bool operator==(const Message&) const = default;
};

// The messages from one rank to another of one kind, as each end orders them.
struct Transfers {
    std::vector<Message> sent, received;
};

std::string find_transfer_error(const ScheduleProgram& program) {
    std::map<std::tuple<int, int, MessageKind>, Transfers> all;  // by sender, receiver and kind
    for (int rank = 0; rank < program.stages; ++rank) {
        for (const Action& action : program.ranks[static_cast<size_t>(rank)]) {
            const int own_stage = program.virtual_stage(rank, action.chunk);
            const int source = program.source_of(rank, action);
            const int target = program.target_of(rank, action);
            const int from = source >= 0 ? program.rank_of(source) : rank;
            const int to = target >= 0 ? program.rank_of(target) : rank;
            const MessageKind kind = message_of(action.kind);
            if (from != rank) {
                all[{from, rank, kind}].received.push_back({source, action.micro_batch});
            }
            if (to != rank) all[{rank, to, kind}].sent.push_back({own_stage, action.micro_batch});
        }
    }
    for (const auto& [link, messages] : all) {
        const auto& [from, to, kind] = link;
        const auto& [sent, received] = messages;
        const size_t i = static_cast<size_t>(
            std::mismatch(sent.begin(), sent.end(), received.begin(), received.end()).first -
            sent.begin());
        if (i == sent.size()) continue;
        return "ranks " + std::to_string(from) + " and " + std::to_string(to) +
               " order their transfers differently: " + name_of(kind) + " number " +
               std::to_string(i) + " leaves as micro-batch " + std::to_string(sent[i].micro_batch) +
               " of virtual stage " + std::to_string(sent[i].stage) +
               " and is expected as micro-batch " + std::to_string(received[i].micro_batch) +
               " of virtual stage " + std::to_string(received[i].stage);
    }
    return {};
}

// Plays the program under the conditions that the header states. Monotone: what can go on now can
// go on later too, so the order in which ranks are tried does not matter.
class Rehearsal {
public:
    Rehearsal(const ScheduleProgram& program, const PlaceName& place_name)
        : program_(program), place_name_(place_name), ranks_(program.ranks.size()) {
        for (const MessageKind kind : kMessageKinds) {
            computed_[kind].resize(places());
            asked_[kind].resize(places());
        }
        for (int rank = 0; rank < program.stages; ++rank) {
            for (const Action& action : program.ranks[static_cast<size_t>(rank)]) {
                if (!receives(rank, action)) continue;
                at(rank).links[message_of(action.kind)].needs.push_back(
                    place(program.source_of(rank, action), action.micro_batch));
            }
            ask(rank);
        }
    }

    std::string run() {
        bool progress = true;
        while (progress) {
            progress = false;
            for (int rank = 0; rank < program_.stages; ++rank) {
                while (step(rank)) progress = true;
            }
        }
        for (int rank = 0; rank < program_.stages; ++rank) {
            if (!finished(rank)) return describe_deadlock();
        }
        return {};
    }

private:
    // What one rank receives and sends of one kind.
    struct Link {
        std::vector<size_t> needs;  // places of what it receives, in order
        size_t asked = 0, used = 0;
        std::map<int, size_t> sent;  // by receiving rank: the last send's place
    };
    struct Rank {
        size_t next = 0;
        ByMessageKind<Link> links;
    };

    size_t places() const {
        return static_cast<size_t>(program_.virtual_stages()) *
               static_cast<size_t>(program_.micro_batches);
    }
    // Of the result of a virtual stage for a micro-batch.
    size_t place(int stage, int micro_batch) const {
        return static_cast<size_t>(stage) * static_cast<size_t>(program_.micro_batches) +
               static_cast<size_t>(micro_batch);
    }
    Rank& at(int rank) { return ranks_[static_cast<size_t>(rank)]; }
    bool finished(int rank) {
        return at(rank).next == program_.ranks[static_cast<size_t>(rank)].size();
    }
    const Action& next(int rank) {
        return program_.ranks[static_cast<size_t>(rank)][at(rank).next];
    }
    bool receives(int rank, const Action& action) const {
        const int source = program_.source_of(rank, action);
        return source >= 0 && program_.rank_of(source) != rank;
    }
    bool sends(int rank, const Action& action) const {
        const int target = program_.target_of(rank, action);
        return target >= 0 && program_.rank_of(target) != rank;
    }

    // On reaching its next action.
    void ask(int rank) {
        if (finished(rank)) return;
        for (const MessageKind kind : kMessageKinds) {
            Link& link = at(rank).links[kind];
            const bool now = receives(rank, next(rank)) && message_of(next(rank).kind) == kind;
            const int ahead = program_.receives_ahead(rank, kind);
            const size_t wanted = link.used + (now ? 1 : 0) + static_cast<size_t>(ahead);
            while (link.asked < std::min(wanted, link.needs.size())) {
                asked_[kind][link.needs[link.asked++]] = 1;
            }
        }
    }

    // Why the rank's next action cannot be performed yet; empty when it can.
    std::string obstacle(int rank) {
        const Action& action = next(rank);
        const MessageKind kind = message_of(action.kind);
        const int source = program_.source_of(rank, action);
        if (source >= 0 && !computed_[kind][place(source, action.micro_batch)]) {
            return std::string("for the ") + name_of(kind) + " of virtual stage " +
                   std::to_string(source) + " (rank " + std::to_string(program_.rank_of(source)) +
                   ")";
        }
        if (!sends(rank, action)) return {};
        const int to = program_.rank_of(program_.target_of(rank, action));
        const std::map<int, size_t>& sent = at(rank).links[kind].sent;
        const auto last = sent.find(to);
        if (last == sent.end() || asked_[kind][last->second]) return {};
        return std::string("until its last ") + name_of(kind) + " to rank " + std::to_string(to) +
               " is received";
    }

    bool step(int rank) {
        if (finished(rank) || !obstacle(rank).empty()) return false;
        const Action& action = next(rank);
        const MessageKind kind = message_of(action.kind);
        Link& link = at(rank).links[kind];
        if (action.kind != ActionKind::backward_weight) {
            const size_t made =
                place(program_.virtual_stage(rank, action.chunk), action.micro_batch);
            computed_[kind][made] = 1;
            if (sends(rank, action)) {
                link.sent[program_.rank_of(program_.target_of(rank, action))] = made;
            }
        }
        if (receives(rank, action)) ++link.used;
        ++at(rank).next;
        ask(rank);
        return true;
    }

    std::string describe_deadlock() {
        std::string text = "deadlock:";
        for (int rank = 0; rank < program_.stages; ++rank) {
            if (finished(rank)) continue;
            text += std::string(text.back() == ':' ? " " : "; ") +
                    place_name_(rank, at(rank).next) + ": " + name_of(next(rank)) + " waits " +
                    obstacle(rank);
        }
        return text;
    }

    const ScheduleProgram& program_;
    const PlaceName& place_name_;
    std::vector<Rank> ranks_;
    // Of each virtual stage and micro-batch.
    ByMessageKind<std::vector<char>> computed_, asked_;
};

}  // namespace

std::string find_schedule_error(const ScheduleProgram& program, const PlaceName& place_name) {
    const PlaceName name = place_name ? place_name : PlaceName(rank_and_action);
    std::string error = find_size_error(program);
    for (int rank = 0; rank < program.stages && error.empty(); ++rank) {
        error = find_rank_error(program, rank, name);
    }
    if (error.empty()) error = find_transfer_error(program);
    if (error.empty()) error = Rehearsal(program, name).run();
    return error;
}

}  // namespace trireme
