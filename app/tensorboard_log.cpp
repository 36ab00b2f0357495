#include "app/tensorboard_log.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <vector>

#include "app/event_record.h"
#include "core/error.h"
#include "core/host_name.h"

namespace trireme {

namespace {

constexpr double kGiB = 1 << 30;
constexpr const char* kNameStart = "events.out.tfevents.";

double now_seconds() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// Files are read in the order of their names, which begin with the time in seconds. Two starts in
// one second, or a clock that went back, must not change that order.
int64_t next_file_time(const std::string& folder) {
    int64_t time = static_cast<int64_t>(now_seconds());
    const std::string_view start = kNameStart;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with(start)) continue;
        time = std::max<int64_t>(time, std::strtoll(name.c_str() + start.size(), nullptr, 10) + 1);
    }
    return time;
}

// In Markdown, lines that begin with four blanks are shown as they are.
std::string as_code(const std::string& text) {
    std::string code;
    bool begins = true;
    for (const char c : text) {
        if (begins) code += "    ";
        code += c;
        begins = c == '\n';
    }
    return code;
}

}  // namespace

TensorBoardLog::TensorBoardLog(const std::string& folder, int64_t last_step,
                               const std::string& config, Log& log)
    : log_(log) {
    try {
        create_folders(folder);
        char name[64];
        std::snprintf(name, sizeof name, "%s%010lld.", kNameStart,
                      static_cast<long long>(next_file_time(folder)));
        file_.emplace(File::create(folder + "/" + name + own_host_name() + "." +
                                   std::to_string(getpid()) + ".0"));
    } catch (const Error& error) {
        give_up(error.what());
    } catch (const std::filesystem::filesystem_error& error) {
        give_up(error.what());
    }
    append(version_event(now_seconds()));
    append(start_event(now_seconds(), last_step + 1));
    append(text_event(now_seconds(), last_step, "config", as_code(config)));
}

void TensorBoardLog::write(const StepMetrics& m) {
    // Names as in torchtitan where it has the same figure.
    const std::array scalars = {
        EventScalar{"loss_metrics/global_avg_loss", m.loss},
        EventScalar{"grad_norm", m.grad_norm},
        EventScalar{"lr", m.lr},
        EventScalar{"n_tokens_seen", static_cast<double>(m.tokens)},
        EventScalar{"throughput(tps)", m.tokens_per_second_per_rank},
        EventScalar{"throughput_all_ranks(tps)", m.tokens_per_second},
        EventScalar{"tflops", m.tflops_per_rank},
        EventScalar{"mfu(%)", 100 * m.mfu},
        EventScalar{"memory/max_active(GiB)", static_cast<double>(m.memory_peak_bytes) / kGiB},
        EventScalar{"time_metrics/end_to_end(s)", m.step_seconds},
        EventScalar{"time_metrics/comm_exposed(s)", m.comm_exposed_seconds},
        EventScalar{"time_metrics/comm_exposed_tensor(s)", m.comm_exposed_tensor_seconds},
        EventScalar{"time_metrics/comm_exposed_context(s)", m.comm_exposed_context_seconds},
        EventScalar{"time_metrics/comm_exposed_data(s)", m.comm_exposed_data_seconds},
        EventScalar{"time_metrics/comm_exposed_pipeline(s)", m.comm_exposed_pipeline_seconds},
        EventScalar{"time_metrics/pipeline_idle(s)", m.pipeline_idle_seconds},
    };
    append(scalars_event(now_seconds(), m.step, scalars));
}

void TensorBoardLog::write(const ValidationMetrics& m) {
    if (!m.loss) return;
    std::vector<std::string> tags;
    tags.reserve(m.sets.size());
    std::vector<EventScalar> scalars = {{"validation_metrics/loss", *m.loss}};
    for (const auto& [name, loss] : m.sets) {
        if (m.sets.size() == 1) break;
        scalars.push_back({tags.emplace_back("validation_metrics/loss/" + name), loss});
    }
    append(scalars_event(now_seconds(), m.step, scalars));
}

void TensorBoardLog::append(const std::string& event) {
    if (!file_) return;
    const std::string record = framed_event(event);
    try {
        file_->write_all(record.data(), record.size());
    } catch (const Error& error) {
        give_up(error.what());
    }
}

void TensorBoardLog::give_up(const std::string& reason) {
    file_.reset();
    log_.warn(reason +
              "; training goes on without event files for TensorBoard (metrics.jsonl has the same "
              "figures)");
}

}  // namespace trireme
