#include "app/run_guard.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>

#include "core/clock.h"
#include "core/file_io.h"
#include "core/service_thread.h"

namespace trireme {

namespace {

constexpr std::chrono::seconds kDumpPatience{2};

}  // namespace

double start_limit_seconds(const std::string& config_path, const std::vector<std::string>& sets) {
    try {
        return load_config(config_path, sets).run.start_limit_seconds;
    } catch (const Error&) {
        return RunOptions().start_limit_seconds;  // reported once all ranks are there
    }
}

RunGuard::RunGuard(World& world, const Config& config, StopRequest& stop)
    : world_(world),
      config_(config),
      stop_(stop),
      log_(world.rank(), world.size()),
      restarts_(config.run.output),
      limit_(Moment::now(), config.run.time_limit_seconds, std::getenv("SLURM_JOB_END_TIME")),
      phase_begin_(std::chrono::steady_clock::now()) {
    if (world.rank() == 0) stop_.watch(config.run.output, limit_);
    WatchdogOptions options;
    options.limit_seconds = config.run.hang_limit_seconds;
    options.start_limit_seconds = config.run.start_limit_seconds;
    options.report = [this](const std::string& message, const std::string& details) {
        report_hang(message, details);
    };
    options.end = [](ExitCode code) { _exit(static_cast<int>(code)); };
    watchdog_.emplace(world, std::move(options));
}

RunGuard::~RunGuard() {
    watchdog_.reset();
}

void RunGuard::lock_folder() {
    std::error_code unknown;
    if (world_.rank() != 0 || lock_ ||
        !std::filesystem::is_directory(config_.run.output, unknown)) {
        return;
    }
    RunLock::Options options;
    options.warn = [this](const std::string& text) { log_.warn(text); };
    lock_ = std::make_unique<LockKeeper>(std::make_unique<RunLock>(config_.run.output, options),
                                         [this] { lose_lock(); });
}

void RunGuard::begin_run(ControlGroup& control, int64_t first_step) {
    first_step_ = first_step;
    control.run("while beginning the run", [&] {
        if (world_.rank() == 0) restarts_.count_start(first_step, config_.run.max_restarts);
        if (world_.local_rank() == 0) probe_folder();
    });
}

// What the folder's mode and free space promise is not always so, above all on network disks.
void RunGuard::probe_folder() const {
    const std::string path = config_.run.output + "/.write-test-" + std::to_string(world_.rank()) +
                             "-" + std::to_string(getpid());
    try {
        File file = File::create(path);
        const std::string text = "this file may be deleted\n";
        file.write_all(text.data(), text.size());
        file.sync();
        file.close();
        remove_tree(path);
    } catch (const Error& error) {
        remove_tree(path);
        const bool is_allowed = access(config_.run.output.c_str(), W_OK | X_OK) == 0;
        throw Error(is_allowed ? ExitCode::io : ExitCode::output_busy,
                    std::string("run.output: a file written to try the folder failed: ") +
                        error.what() + " (user " + std::to_string(getuid()) +
                        "); every host must be able to write there");
    }
}

void RunGuard::enter(Phase phase, int64_t step) {
    const double seconds = seconds_since(phase_begin_);
    if (phase_ == Phase::step) step_seconds_ = std::max(step_seconds_, seconds);
    if (phase_ == Phase::save) save_seconds_ = std::max(save_seconds_, seconds);
    phase_begin_ = std::chrono::steady_clock::now();
    phase_ = phase;
    pace_ = {.last = phase_begin_};
    watchdog_->enter(phase, step);
}

void RunGuard::saved(double seconds) {
    save_seconds_ = std::max(save_seconds_, seconds);
    watchdog_->saw(Phase::save, seconds);
}

double RunGuard::needed_seconds() const {
    return seconds_to_end(step_seconds_, save_seconds_, limit_.length_seconds());
}

double RunGuard::vote() {
    return stop_.vote([this] { return needed_seconds(); });
}

bool RunGuard::is_stop_agreed(ControlGroup& control) {
    return control.largest(vote()) > 0;
}

bool RunGuard::is_stop_agreed_now_and_then(ControlGroup& control) {
    if (++pace_.calls < pace_.next) return false;
    constexpr double kStop = 1e9;
    const double slowest =
        control.largest(vote() > 0 ? kStop : std::max(1e-6, seconds_since(pace_.last)));
    pace_.last = std::chrono::steady_clock::now();
    if (slowest >= kStop) return true;
    // All ranks have the same number, so that they meet again.
    pace_.every = std::clamp(pace_.every / slowest, 1.0, 4 * pace_.every);
    pace_.next = pace_.calls + static_cast<int64_t>(pace_.every);
    return false;
}

void RunGuard::stopped(ControlGroup& control, int64_t step) {
    const std::vector<std::string> reasons =
        control.gather(stop_.reason([this] { return needed_seconds(); }));
    stop_.honour();
    if (world_.rank() != 0) return;
    std::string text;
    for (size_t rank = 0; rank < reasons.size() && text.empty(); ++rank) {
        if (reasons[rank].empty()) continue;
        text = reasons[rank];
        if (reasons.size() > 1) text += " (rank " + std::to_string(rank) + ")";
    }
    if (step > first_step_) restarts_.forget();
    log_.info("stopped on request: " + text + ". The checkpoint of step " + std::to_string(step) +
              " of " + std::to_string(config_.run.steps) +
              " is saved; start the same command again" +
              (config_.checkpoint.resume == "auto" ? "" : " with checkpoint.resume: auto") +
              " to go on (exit code 75)");
}

void RunGuard::finished() {
    stop_.honour();
    if (world_.rank() == 0) restarts_.forget();
}

void RunGuard::failed(ExitCode code, const std::string& message) {
    if (code == ExitCode::internal && message.starts_with("communication:")) watchdog_->compare();
    watchdog_->leave();
    lock_.reset();
}

void RunGuard::lose_lock() {
    log_.error("run.output: " + config_.run.output +
               "/run.lock is not this run's any more: it was deleted, or another run has taken the "
               "folder over; ended before both write into it");
    _exit(static_cast<int>(ExitCode::output_busy));
}

void RunGuard::report_hang(const std::string& message, const std::string& details) {
    const std::string file =
        config_.run.output + "/hang-" + std::to_string(world_.activity().step()) + ".txt";
    log_.error(message + (details.empty() ? "" : ". What each rank did last: " + file));
    if (details.empty()) return;
    // Storage may be what hangs: then the ranks are ended without the file.
    const auto done = std::make_shared<std::promise<void>>();
    const auto write = [done, file, folder = config_.run.output,
                        text = message + "\n\n" + details] {
        try {
            create_folders(folder);
            replace_file(file, text);
        } catch (const Error&) {
            // The message above is what matters.
        }
        done->set_value();
    };
    start_service_thread("hang report", write).detach();
    done->get_future().wait_for(kDumpPatience);
}

}  // namespace trireme
