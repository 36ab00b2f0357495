#pragma once

#include <optional>
#include <string>

#include "app/metrics.h"
#include "core/file_io.h"
#include "core/log.h"

namespace trireme {

// Writes what metrics.jsonl holds for TensorBoard as well: one event file a process, each record
// handed to the system as it comes. Nothing here throws: a failure is reported once, and the rest
// of the run has no event file.
class TensorBoardLog {
public:
    // Begins a file in `folder` (made when missing) for the steps after `last_step`; points that
    // earlier files have of those are dropped by TensorBoard. config: shown as text. `log` must
    // outlive this.
    TensorBoardLog(const std::string& folder, int64_t last_step, const std::string& config,
                   Log& log);

    void write(const StepMetrics& metrics);
    void write(const ValidationMetrics& metrics);

private:
    void append(const std::string& event);
    void give_up(const std::string& reason);

    Log& log_;
    std::optional<File> file_;  // none: given up
};

}  // namespace trireme
