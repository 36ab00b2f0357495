#include "parallel/checkpoint_saver.h"

#include <chrono>
#include <utility>

#include "core/clock.h"
#include "core/file_io.h"
#include "core/service_thread.h"
#include "parallel/checkpoint_folders.h"

namespace trireme {

namespace {

using Clock = std::chrono::steady_clock;

// For people and their scripts. Nothing here reads it, so that a failure does no harm.
void write_hint(const std::string& folder, int64_t step) {
    try {
        const std::string path = folder + "/" + kLatestName;
        const std::string text = step_folder_name(step) + "\n";
        File file = File::create(path + kTemporaryMark);
        file.write_all(text.data(), text.size());
        file.close();
        rename_path(path + kTemporaryMark, path);
    } catch (const Error&) {
    }
}

}  // namespace

CheckpointSaver::CheckpointSaver(World& control, Device& device, Options options)
    : device_(device), options_(std::move(options)), group_(control, "saver") {
    if (options_.in_background) thread_ = start_service_thread("saver", [this] { run(); });
}

CheckpointSaver::~CheckpointSaver() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

bool CheckpointSaver::copies() const {
    return options_.in_background || device_.backend() != Backend::cpu;
}

uint64_t CheckpointSaver::host_bytes(std::span<const CheckpointPiece> pieces) const {
    return copies() ? CheckpointSnapshot::bytes_of(pieces) : 0;
}

void CheckpointSaver::reserve(std::span<const CheckpointPiece> pieces) {
    snapshot_.reserve(host_bytes(pieces));
}

void CheckpointSaver::begin(CheckpointState state, std::span<const CheckpointPiece> pieces) {
    {
        const std::lock_guard lock(mutex_);
        TRIREME_CHECK(phase_ == Phase::idle, "the report of the save before to have been taken");
    }
    const auto begin = Clock::now();
    Job job{std::move(state), pieces, 0.0, nullptr};
    if (copies()) {
        try {
            snapshot_.take(device_, pieces);
            job.pieces = snapshot_.pieces();
        } catch (...) {
            job.failure = std::current_exception();
        }
    } else {
        device_.compute().synchronize();
    }
    job.snapshot_seconds = seconds_since(begin);
    if (!options_.in_background) {
        report_ = write(job);
        phase_ = Phase::done;
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        job_ = std::move(job);
        phase_ = Phase::writing;
    }
    changed_.notify_all();
}

std::optional<SaveReport> CheckpointSaver::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return phase_ != Phase::writing; });
    if (phase_ == Phase::idle) return std::nullopt;
    phase_ = Phase::idle;
    return std::move(report_);
}

bool CheckpointSaver::is_writing() {
    const std::lock_guard lock(mutex_);
    return phase_ == Phase::writing;
}

void CheckpointSaver::let_finish(std::chrono::seconds limit) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, limit, [&] { return phase_ != Phase::writing; });
}

std::optional<SaveReport> CheckpointSaver::poll(ControlGroup& control) {
    bool is_idle = false;
    bool is_writing = false;
    {
        const std::lock_guard lock(mutex_);
        is_idle = phase_ == Phase::idle;
        is_writing = phase_ == Phase::writing;
    }
    if (is_idle) return std::nullopt;  // on all ranks, since all make the same calls
    if (control.largest(is_writing ? 1.0 : 0.0) > 0.0) return std::nullopt;
    return wait();
}

SaveReport CheckpointSaver::write(const Job& job) {
    const auto begin = Clock::now();
    SaveReport report;
    report.step = job.state.step;
    report.snapshot_seconds = job.snapshot_seconds;
    try {
        // A rank that could not copy its part fails the save of all.
        group_.run("while copying a checkpoint's data to host memory", [&] {
            if (job.failure) std::rethrow_exception(job.failure);
        });
        const uint64_t bytes = save_checkpoint(group_, options_.folder, job.state, job.pieces);
        report.bytes = static_cast<uint64_t>(group_.sum(static_cast<double>(bytes)));
        report.write_seconds = seconds_since(begin);
        if (group_.rank() == 0) {
            write_hint(options_.folder, job.state.step);
            prune_checkpoints(options_.folder, options_.keep, options_.keep_every, report.step);
        }
    } catch (...) {
        report.error = as_error(std::current_exception(), "while saving a checkpoint");
    }
    return report;
}

void CheckpointSaver::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return stop_ || phase_ == Phase::writing; });
        if (phase_ != Phase::writing) return;
        lock.unlock();
        SaveReport report = write(job_);
        lock.lock();
        report_ = std::move(report);
        phase_ = Phase::done;
        changed_.notify_all();
    }
}

}  // namespace trireme
