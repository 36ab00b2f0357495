#pragma once

#include <string>
#include <vector>

namespace trireme {

enum class ActionKind { forward, backward, backward_input, backward_weight };

// One unit of work of one rank. `backward` is backward_input and backward_weight in one.
struct Action {
    ActionKind kind = ActionKind::forward;
    int chunk = 0;        // which of the rank's model chunks
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
};

// The program of a named schedule: "gpipe" (all forwards, then all backwards; Huang et al. 2019)
// or "1f1b" (Narayanan et al. 2021: warm-up, one forward one backward, cool-down).
// Throws Error (config) on an unknown name.
ScheduleProgram make_schedule(const std::string& name, int stages, int chunks, int micro_batches);

// The first rule the program breaks, as a sentence, or empty when it breaks none: complete (each
// micro-batch forward and backward once on each virtual stage, weight halves once), ordered, the
// same order on both ends of each transfer, and free of deadlock even when sends wait for their
// receiver (rendezvous).
std::string find_schedule_error(const ScheduleProgram& program);

// For each rank: the most micro-batch activations it holds at once (a slot is held from forward to
// the end of its backward, weight half included).
std::vector<int> peak_live_activations(const ScheduleProgram& program);

}  // namespace trireme
