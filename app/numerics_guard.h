#pragma once

#include <map>
#include <string>
#include <vector>

#include "app/config.h"
#include "app/spike_window.h"
#include "core/log.h"
#include "model/engine.h"
#include "parallel/control_group.h"

namespace trireme {

// What one rank reports after a step that was not finite.
struct NotFiniteReport {
    std::string who;  // "rank 3 (tensor 0, data 1, pipeline 0)"
    NotFinite found;
};

// Which ranks brought something that is not finite into the step, and in which tensors: a line for
// the user. Of a rank's bucket only the parameters that are bad after the sums count.
std::string explain_not_finite(const std::vector<NotFiniteReport>& reports);

// Decides which steps may update the parameters. Loss and norm have the same bits on all ranks, so
// every rank decides alike without asking the others.
class NumericsGuard {
public:
    // Both references must outlive it.
    NumericsGuard(const NumericsOptions& options, ControlGroup& control, Log& log);

    // The gate of a step: no when the loss or the norm lies too far above those before it and the
    // policy is to skip such steps.
    bool may_update(const StepResult& result);

    // After every step. Collective when the step was not finite: finds out where that came from.
    // Throws Error (numerics), on all ranks alike, when the policy is to stop or too many steps in
    // a row were skipped; nothing has been updated then.
    void after_step(int64_t step, const StepResult& result, Engine& engine);

    // What must be in a checkpoint for a resumed run to decide as an undisturbed one.
    void save_state(std::map<std::string, std::string>& extra) const;
    void restore_state(const std::map<std::string, std::string>& extra);

private:
    std::string find_origin(Engine& engine) const;
    void skip(int64_t step, const std::string& why);

    const NumericsOptions options_;
    ControlGroup& control_;
    Log& log_;
    SpikeWindow losses_, norms_;
    int skipped_in_a_row_ = 0;
};

}  // namespace trireme
