#include "app/run_record.h"

#include "app/schema.h"
#include "model/flops.h"

namespace trireme {

RunRecord::RunRecord(const Config& config, int ranks, Log& log)
    : config_(config), ranks_(ranks), log_(log) {}

std::string RunRecord::metrics_path(const Config& config) {
    return config.run.output + "/metrics.jsonl";
}

void RunRecord::open_files(int64_t step) {
    metrics_.emplace(metrics_path(config_), step);
    if (!config_.logging.tensorboard) return;
    tensorboard_.emplace(config_.run.output + "/tensorboard", step, dump_config(config_), log_);
}

void RunRecord::add_step(double seconds, const AxisSeconds& waits) {
    window_seconds_ += seconds;
    window_waits_ += waits;
    ++window_steps_;
}

void RunRecord::write_step(int64_t step, const StepResult& result, double lr, int64_t tokens,
                           uint64_t memory_peak_bytes) {
    const double steps = static_cast<double>(window_steps_);
    const double tokens_a_step = static_cast<double>(config_.batch.global) *
                                 static_cast<double>(config_.data.sequence_length);
    StepMetrics m;
    m.step = step;
    m.loss = result.loss;
    m.grad_norm = result.grad_norm;
    m.skipped = !result.updated;
    m.lr = lr;
    m.tokens = tokens;
    m.step_seconds = window_seconds_ / steps;
    m.tokens_per_second = tokens_a_step / m.step_seconds;
    m.tokens_per_second_per_rank = m.tokens_per_second / ranks_;
    const double flops_per_second =
        m.tokens_per_second_per_rank * flops_per_token(config_.model, config_.data.sequence_length);
    m.tflops_per_rank = flops_per_second / 1e12;
    m.mfu = flops_per_second / peak_flops_per_second_;
    m.comm_exposed_seconds = window_waits_.collectives() / steps;
    m.comm_exposed_tensor_seconds = window_waits_.tensor / steps;
    m.comm_exposed_context_seconds = window_waits_.context / steps;
    m.comm_exposed_data_seconds = window_waits_.data / steps;
    m.comm_exposed_pipeline_seconds = window_waits_.pipeline / steps;
    m.pipeline_idle_seconds = window_waits_.neighbours / steps;
    m.memory_peak_bytes = memory_peak_bytes;
    const double seconds_left = m.step_seconds * static_cast<double>(config_.run.steps - step);
    log_.info(console_line(m, config_.run.steps, seconds_left));
    if (metrics_) metrics_->write(m);
    if (tensorboard_) tensorboard_->write(m);
    window_seconds_ = 0;
    window_waits_ = {};
    window_steps_ = 0;
}

void RunRecord::write_validation(const ValidationMetrics& metrics) {
    log_.info(console_line(metrics, config_.run.steps));
    if (metrics_) metrics_->write(metrics);
    if (tensorboard_) tensorboard_->write(metrics);
}

}  // namespace trireme
