#pragma once

#include <functional>
#include <string>
#include <vector>

#include "parallel/parallel_options.h"

namespace trireme {

enum class ActionKind { forward, backward, backward_input, backward_weight };

const char* name_of(ActionKind kind);

// The action after which nothing of the micro-batch is needed on this chunk any more.
constexpr bool ends_slot(ActionKind kind) {
    return kind == ActionKind::backward || kind == ActionKind::backward_weight;
}
// The action that turns the output's gradient into the input's.
constexpr bool passes_gradient(ActionKind kind) {
    return kind == ActionKind::backward || kind == ActionKind::backward_input;
}

// What stages send each other: results of forward actions, or the gradients of these.
enum class MessageKind { activation, gradient };

const char* name_of(MessageKind kind);
// Of what an action of this kind needs from another stage, and of what it makes.
constexpr MessageKind message_of(ActionKind kind) {
    return kind == ActionKind::forward ? MessageKind::activation : MessageKind::gradient;
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
    // How many receives ahead of its next one the first rank posts for activations that come
    // round from the last rank, and the last rank for gradients from the first: results wait there
    // when they are needed later than they come. All other receives are posted one ahead.
    int wrap_receives_ahead = 1;

    bool operator==(const ScheduleProgram&) const = default;

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

    // For a result that `to` gets from another rank: how many receives of its kind are posted ahead
    // of the one that is needed next. One hides a transfer behind an action.
    int receives_ahead(int to, MessageKind kind) const;
};

// The names that make_schedule knows, without files.
std::vector<std::string> schedule_names();

// The program of a named schedule, for p stages, v chunks a rank and m micro-batches. Peak: live
// activations of rank r (see peak_live_activations), exactly where nothing else is said.
//
//   gpipe        All forwards, then all backwards (Huang et al. 2019). v = 1. Peak m.
//   1f1b         Warm-up, one forward one backward, cool-down (Narayanan et al. 2021). v = 1.
//                With N = extra_warmup the warm-up is 1 + N times as long, which hides transfers.
//                Peak min(m, (p - r - 1) (1 + N) + 1).
//   interleaved  1f1b over v chunks, which take turns after every N = micro_batch_group
//                micro-batches (Narayanan et al. 2021; order of Megatron-LM). p <= N <= m, and m is
//                a multiple of N, or leaves a last group of at least p.
//                Peak min(v m, 2 (p - r - 1) + (v - 1) N + 1).
//   zb-h1        1f1b with the backward in halves; weight halves fill the cool-down (Qi et al.
//                2023, "Zero Bubble Pipeline Parallelism"). v = 1. Peak min(m, p).
//   zb-h2        The same with twice the warm-up: ranks wait for nothing once they have begun when
//                all costs are equal and m >= 2 p - 1. v = 1. Peak min(m, 2 p - 1).
//   zb-v         Two chunks in a vee, halves fill every gap when all costs are equal and
//                m >= 2 p - 1. v = 2; the first rank holds both ends of the model. Peak min(2 m,
//                2 p) from m >= 2 p - 1 on, at most that below.
//   zb-auto      The shortest program found for `costs` within memory_cap: those above with v = 1
//                and a search. v = 1. Peak at most memory_cap.
//   file:PATH    What a file says (parallel/schedule_file.h).
//
// Throws Error (config) on an unknown name and on sizes the schedule cannot serve.
ScheduleProgram make_schedule(const PipelineOptions& options, int stages, int micro_batches);
ScheduleProgram make_schedule(const std::string& name, int stages, int chunks, int micro_batches);

// How an error names action `index` of a rank; without it: "rank 1, action 4".
using PlaceName = std::function<std::string(int rank, size_t index)>;

// The first rule the program breaks, as a sentence, or empty when it breaks none: complete (each
// micro-batch forward and backward once on each virtual stage, weight halves once), ordered, the
// same order on both ends of each transfer, and free of deadlock.
//
// Deadlock is judged under conditions harsher than the runtime's, so that passing here suffices:
// a rank performs its actions one by one; on reaching an action it asks for what this action needs
// from another rank and, of either kind (activation or gradient), for the next receives_ahead()
// things that later actions need, and never asks earlier; a send is taken only once its receiver
// has asked for it (rendezvous); an action that sends waits before it starts until this rank's
// previous send of the same kind to the same rank has been taken, as if there were a single output
// buffer for each neighbour where the runtime has two. The send itself does not hold up the sender.
// What stays on the rank needs no transfer.
std::string find_schedule_error(const ScheduleProgram& program, const PlaceName& place_name = {});

// For each rank: the most activations it holds at once, one for each micro-batch and chunk (a slot
// is held from forward to the end of its backward, weight half included).
std::vector<int> peak_live_activations(const ScheduleProgram& program);

}  // namespace trireme
