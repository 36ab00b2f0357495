#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "app/config.h"
#include "app/metrics.h"
#include "app/tensorboard_log.h"
#include "core/log.h"
#include "model/engine.h"

namespace trireme {

// What users see of a run's steps and validations: lines of the log, and with open_files()
// metrics.jsonl and TensorBoard's events.
class RunRecord {
public:
    // `config` and `log` must outlive this. ranks: that share the work.
    RunRecord(const Config& config, int ranks, Log& log);

    // On one rank. What the files have of steps after this one is dropped. Throws Error (io,
    // output_busy).
    void open_files(int64_t step);
    // Of a rank, which a step's speed is a share of.
    void set_peak(double flops_per_second) { peak_flops_per_second_ = flops_per_second; }

    // After each step: what it took.
    void add_step(double seconds, const AxisSeconds& waits);
    // Writes about this step, with means over those since the last that was written about.
    // tokens: consumed since the start of training.
    void write_step(int64_t step, const StepResult& result, double lr, int64_t tokens,
                    uint64_t memory_peak_bytes);
    void write_validation(const ValidationMetrics& metrics);

    // Where metrics.jsonl is.
    static std::string metrics_path(const Config& config);

private:
    const Config& config_;
    const int ranks_;
    Log& log_;
    std::optional<MetricsFile> metrics_;
    std::optional<TensorBoardLog> tensorboard_;  // when asked for
    double peak_flops_per_second_ = 0;

    // Since the last step that was written about.
    double window_seconds_ = 0;
    AxisSeconds window_waits_;
    int64_t window_steps_ = 0;
};

}  // namespace trireme
