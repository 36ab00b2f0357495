#include "app/metrics.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "app/readable.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/format_number.h"

namespace trireme {

namespace {

// -1 where there is none.
int64_t step_of(const nlohmann::json& record) {
    if (!record.is_object()) return -1;
    const auto step = record.find("step");
    return step != record.end() && step->is_number_integer() ? step->get<int64_t>() : -1;
}

// Lines of an existing file whose step is at most `last_step`. What cannot be read must not be
// replaced by what could.
std::string records_until(const std::string& path, int64_t last_step) {
    std::error_code ignored;
    std::ifstream in(path);
    if (!in.is_open() && std::filesystem::exists(path, ignored)) {
        throw Error(ExitCode::output_busy, path + ": cannot be read: " + std::strerror(errno) +
                                               "; choose another run.output");
    }
    std::string kept;
    for (std::string line; std::getline(in, line);) {
        const int64_t step = step_of(nlohmann::json::parse(line, nullptr, false));
        if (step >= 0 && step <= last_step) kept += line + "\n";
    }
    if (in.bad()) throw Error(ExitCode::io, path + ": reading failed: " + std::strerror(errno));
    return kept;
}

}  // namespace

std::string console_line(const StepMetrics& m, int64_t steps, double seconds_left) {
    return "step " + std::to_string(m.step) + "/" + std::to_string(steps) + " | loss " +
           format_number("%.4f", m.loss) + " | grad " + format_number("%.3f", m.grad_norm) +
           " | lr " + format_number("%.1e", m.lr) + " | " +
           format_number("%.2f s", m.step_seconds) + " | " + with_commas(m.tokens_per_second) +
           " tok/s | " +
           format_number(m.tflops_per_rank < 1 ? "%.4f TFLOP/s/rank" : "%.1f TFLOP/s/rank",
                         m.tflops_per_rank) +
           format_number(" (MFU %.1f%%)", 100 * m.mfu) + " | mem " +
           format_number("%.1f GiB", static_cast<double>(m.memory_peak_bytes) / (1 << 30)) +
           " | eta " + clock_text(std::llround(seconds_left));
}

std::string console_line(const ValidationMetrics& m, int64_t steps) {
    std::string line = "step " + std::to_string(m.step) + "/" + std::to_string(steps);
    if (!m.loss) return line + " | no valid loss: no token counts";
    line += " | valid loss " + std::to_string(*m.loss) + " | perplexity " +
            std::to_string(std::exp(*m.loss));
    if (m.sets.size() < 2) return line;
    for (const auto& [name, loss] : m.sets) line += " | " + name + " " + std::to_string(loss);
    return line;
}

bool has_validation(const std::string& path, int64_t step) {
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
        const auto record = nlohmann::json::parse(line, nullptr, false);
        if (step_of(record) == step && record.contains("valid_losses")) return true;
    }
    return false;
}

MetricsFile::MetricsFile(const std::string& path, int64_t last_step) : path_(path) {
    // Replaced in one step, so that a crash in between loses no record.
    replace_file(path, records_until(path, last_step));
    file_ = std::fopen(path.c_str(), "a");
    if (!file_) {
        throw Error(ExitCode::output_busy, path + ": cannot be written: " + std::strerror(errno) +
                                               "; choose another run.output");
    }
}

MetricsFile::~MetricsFile() {
    if (file_) std::fclose(file_);
}

void MetricsFile::append(const std::string& line) {
    if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0) {
        throw Error(ExitCode::io, path_ + ": writing failed: " + std::strerror(errno));
    }
}

void MetricsFile::write(const StepMetrics& m) {
    nlohmann::ordered_json record = {
        {"step", m.step},
        {"loss", m.loss},
        {"grad_norm", m.grad_norm},
        {"lr", m.lr},
        {"tokens", m.tokens},
        {"step_seconds", m.step_seconds},
        {"tokens_per_second", m.tokens_per_second},
        {"tokens_per_second_per_rank", m.tokens_per_second_per_rank},
        {"tflops_per_rank", m.tflops_per_rank},
        {"mfu", m.mfu},
        {"memory_peak_bytes", m.memory_peak_bytes},
        {"comm_exposed_seconds", m.comm_exposed_seconds},
        {"comm_exposed_tensor_seconds", m.comm_exposed_tensor_seconds},
        {"comm_exposed_context_seconds", m.comm_exposed_context_seconds},
        {"comm_exposed_data_seconds", m.comm_exposed_data_seconds},
        {"comm_exposed_pipeline_seconds", m.comm_exposed_pipeline_seconds},
        {"pipeline_idle_seconds", m.pipeline_idle_seconds},
    };
    if (m.skipped) record["skipped"] = true;
    append(record.dump() + "\n");
}

void MetricsFile::write(const ValidationMetrics& m) {
    nlohmann::ordered_json record = {{"step", m.step}};
    if (m.loss) record["valid_loss"] = *m.loss;
    record["valid_losses"] = nlohmann::ordered_json::object();
    for (const auto& [name, loss] : m.sets) record["valid_losses"][name] = loss;
    // A path may be no valid UTF-8.
    append(record.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace trireme
