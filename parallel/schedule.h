#pragma once

#include <string>
#include <vector>

namespace trireme {

enum class ActionKind { forward, backward, backward_input, backward_weight };

// The action after which nothing of the micro-batch is needed on this chunk any more.
constexpr bool ends_slot(ActionKind kind) {
    return kind == ActionKind::backward || kind == ActionKind::backward_weight;
}
// The action that turns the output's gradient into the input's.
constexpr bool passes_gradient(ActionKind kind) {
    return kind == ActionKind::backward || kind == ActionKind::backward_input;
}

// One unit of work of one rank. `backward` is backward_input and backward_weight in one.
struct Action {
    ActionKind kind = ActionKind::forward;
    int chunk = 0;  // which of the rank's model chunks
    int micro_batch = 0;
    bool operator==(const Action&) const = default;
};

// Where chunk c of rank r stands in the model: loop: virtual stage c * stages + r;
// vee: c even as loop, c odd mirrored, so that rank 0 holds the first and the last.
enum class Placement { loop, vee };

// A pipeline schedule: for each rank the list of its actions. Communication is not part of it:
// the runtime inserts sends and receives from the virtual stages' neighbourhood.
struct ScheduleProgram {
    int stages = 1;
    int chunks = 1;
    int micro_batches = 1;
    Placement placement = Placement::loop;
    std::vector<std::vector<Action>> ranks;

    int virtual_stages() const { return stages * chunks; }
    int virtual_stage(int rank, int chunk) const {
        const bool mirrored = placement == Placement::vee && chunk % 2 == 1;
        return chunk * stages + (mirrored ? stages - 1 - rank : rank);
    }
    int rank_of(int virtual_stage) const {
        const int chunk = virtual_stage / stages, at = virtual_stage % stages;
        const bool mirrored = placement == Placement::vee && chunk % 2 == 1;
        return mirrored ? stages - 1 - at : at;
    }

    // The virtual stage whose result the action needs, and the one that gets the action's result;
    // -1 where the model ends, and for weight halves.
    int source_of(int rank, const Action& action) const;
    int target_of(int rank, const Action& action) const;
};

// The program of a named schedule: "gpipe" (all forwards, then all backwards; Huang et al. 2019)
// or "1f1b" (Narayanan et al. 2021: warm-up, one forward one backward, cool-down). Both run one
// chunk a rank. Throws Error (config) on an unknown name and on sizes the schedule cannot serve.
ScheduleProgram make_schedule(const std::string& name, int stages, int chunks, int micro_batches);

// The first rule the program breaks, as a sentence, or empty when it breaks none: complete (each
// micro-batch forward and backward once on each virtual stage, weight halves once), ordered, the
// same order on both ends of each transfer, and free of deadlock.
//
// Deadlock is judged under conditions harsher than the runtime's, so that passing here suffices:
// a rank performs its actions one by one; an action first asks for what it needs from another
// rank, and never earlier, and waits until it is there; a send is taken only once its receiver has
// asked for it (rendezvous); an action that sends waits before it starts until this rank's
// previous send of the same kind (activation or gradient) has been taken, as with a single output
// buffer. The send itself does not hold up the sender. What stays on the rank needs no transfer.
std::string find_schedule_error(const ScheduleProgram& program);

// For each rank: the most micro-batch activations it holds at once (a slot is held from forward to
// the end of its backward, weight half included).
std::vector<int> peak_live_activations(const ScheduleProgram& program);

}  // namespace trireme
