#include "app/start_watch.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "app/stop_request.h"
#include "core/error.h"
#include "core/host_name.h"
#include "core/log.h"
#include "core/service_thread.h"
#include "parallel/mpi/launcher.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr milliseconds kLook{250};
constexpr double kAskedLimit = 30.0;  // seconds

std::string content_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::string stopped_siblings() {
    std::string found;
    std::error_code error;
    for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
        const std::string pid = it->path().filename().string();
        if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
        const std::string stat = content_of(it->path() / "stat");
        const size_t name_end = stat.rfind(')');
        if (name_end == std::string::npos) continue;
        std::istringstream fields(stat.substr(name_end + 1));
        char state = ' ';
        int parent = 0;
        fields >> state >> parent;
        if ((state != 'T' && state != 't') || parent != getppid()) continue;
        const int rank = find_launcher(content_of(it->path() / "environ")).rank;
        if (rank < 0) continue;
        found +=
            (found.empty() ? "" : ", ") + ("rank " + std::to_string(rank)) + " (pid " + pid + ")";
    }
    return found;
}

StartWatch::StartWatch(double limit_seconds)
    : limit_seconds_(limit_seconds),
      rank_(std::max(0, find_launcher().rank)),
      is_launched_(find_launcher().processes != 1) {
    thread_ = start_service_thread("start watch", [this] { run(); });
}

StartWatch::~StartWatch() {
    end();
    thread_.join();
}

void StartWatch::end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
}

void StartWatch::run() {
    const auto begin = std::chrono::steady_clock::now();
    auto last = begin;
    const pid_t launcher = getppid();
    double limit = limit_seconds_, waited_until_asked = 0;
    double waited = 0;  // without the time in which the machine was suspended
    std::unique_lock lock(mutex_);
    while (waited < limit) {
        if (changed_.wait_for(lock, kLook, [this] { return ended_; })) return;
        // MPI may wait for a launcher that was killed.
        if (is_launched_ && getppid() != launcher) {
            _exit(static_cast<int>(ExitCode::hang));
        }
        const auto now = std::chrono::steady_clock::now();
        waited += std::min(std::chrono::duration<double>(now - last).count(), 0.5);
        last = now;
        if (StopRequest::is_signalled())
            limit = std::min(limit, waited_until_asked + kAskedLimit);
        else
            waited_until_asked = waited;
    }
    lock.unlock();
    // The first to speak ends the job, so that not everybody does.
    std::this_thread::sleep_for(milliseconds(300) * std::min(rank_, 4));
    const bool is_asked = StopRequest::is_signalled();
    std::string text = std::string(is_asked ? "stopped on request" : "start-up stands still") +
                       ": after " + std::to_string(static_cast<int64_t>(waited)) +
                       " s not all ranks have come (seen by rank " + std::to_string(rank_) +
                       " on " + own_host_name() + ")";
    if (const std::string stopped = stopped_siblings(); !stopped.empty()) {
        text += "; stopped on this host: " + stopped;
    }
    if (!is_asked) text += ". A slower machine may need a higher run.start_limit";
    Log(rank_, rank_ + 1).error(text);
    _exit(static_cast<int>(is_asked ? ExitCode::stopped : ExitCode::hang));
}

}  // namespace trireme
