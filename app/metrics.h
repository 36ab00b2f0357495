#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace trireme {

// One logged training step, as written to metrics.jsonl.
struct StepMetrics {
    int64_t step = 0;
    double loss = 0;
    double grad_norm = 0;
    double lr = 0;
    int64_t tokens = 0;       // consumed since the start of training
    double step_seconds = 0;  // mean over the steps since the last record
    double tokens_per_second = 0;
    double tokens_per_second_per_rank = 0;
    double tflops_per_rank = 0;  // model FLOPs, see docs/numerics.md
    double mfu = 0;              // share of the rank's peak rate, from 0 to 1
    uint64_t memory_peak_bytes = 0;
    // Means over the steps since the last record, of this rank (0 in the file): compute stood still
    // for the tensor, context and data axes together, and for each axis. The pipeline's includes
    // pipeline_idle_seconds, which holds the schedule's bubble as well.
    double comm_exposed_seconds = 0;
    double comm_exposed_tensor_seconds = 0;
    double comm_exposed_context_seconds = 0;
    double comm_exposed_data_seconds = 0;
    double comm_exposed_pipeline_seconds = 0;
    double pipeline_idle_seconds = 0;
    bool skipped = false;  // the step updated nothing; its loss may be NaN, null in the file
};

// "step 120/200 | loss 2.4817 | ... | eta 0:01:46"
std::string console_line(const StepMetrics& metrics, int64_t steps, double seconds_left);

// One validation.
struct ValidationMetrics {
    int64_t step = 0;
    // Of all sets by their weights; nothing where no token of any counts.
    std::optional<double> loss;
    std::vector<std::pair<std::string, double>> sets;  // name and loss of each that has one
};

// "step 120/200 | valid loss 2.481734 | perplexity 11.961978", and each set's loss if there are
// several. Or that there is none.
std::string console_line(const ValidationMetrics& metrics, int64_t steps);

// Whether the file, if there is one, has the record of a validation after this step.
bool has_validation(const std::string& path, int64_t step);

// Appends records to metrics.jsonl, one line each, flushed as they are written.
class MetricsFile {
public:
    // Records of steps after `last_step` (written by a run that was resumed from before them) are
    // dropped. Throws Error (io).
    MetricsFile(const std::string& path, int64_t last_step);
    ~MetricsFile();
    MetricsFile(const MetricsFile&) = delete;
    MetricsFile& operator=(const MetricsFile&) = delete;

    void write(const StepMetrics& metrics);
    void write(const ValidationMetrics& metrics);

private:
    void append(const std::string& line);

    std::string path_;
    std::FILE* file_ = nullptr;
};

}  // namespace trireme
