#include "app/stop_request.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <ctime>

namespace trireme {

namespace {

// What a handler may touch.
std::atomic<int> caught_signal{0};
std::atomic<int64_t> caught_ns{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free);

// Launchers and batch systems may send one request along two ways.
constexpr int64_t kSameRequestNs = 50'000'000;

extern "C" void catch_stop_signal(int number) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t ns = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
    int64_t none = 0;
    if (caught_ns.compare_exchange_strong(none, ns)) {
        caught_signal.store(number);
    } else if (ns - none > kSameRequestNs) {
        _exit(128 + number);
    }
}

struct sigaction action_of(void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    return action;
}

// A folder of that name is somebody's, and no request.
bool is_there(const std::string& file) {
    struct stat found {};
    return stat(file.c_str(), &found) == 0 && !S_ISDIR(found.st_mode);
}

std::string name_of_signal(int number) {
    if (number == SIGTERM) return "SIGTERM";
    return number == SIGINT ? "SIGINT" : "SIGUSR1";
}

}  // namespace

StopRequest::StopRequest() {
    caught_signal.store(0);
    caught_ns.store(0);
    const struct sigaction action = action_of(catch_stop_signal);
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : kSignals) sigaddset(&signals, number);
    thread_.emplace(signals);  // first: where it cannot be started no handler is left behind
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
}

StopRequest::~StopRequest() {
    thread_.reset();  // first: what is pending then meets the handler
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
}

bool StopRequest::is_signalled() {
    return caught_signal.load() != 0;
}

void StopRequest::watch(const std::string& output_folder, const TimeLimit& limit) {
    stop_file_ = output_folder + "/STOP";
    limit_ = limit;
    watches_ = true;
}

const std::string& StopRequest::reason(const std::function<double()>& needed_seconds) {
    if (!reason_.empty()) return reason_;
    if (const int number = caught_signal.load(); number != 0) {
        reason_ = "signal " + name_of_signal(number);
        return reason_;
    }
    const Moment now = Moment::now();
    if (!watches_ || now.steady - looked_at_ < std::chrono::seconds(1)) return reason_;
    looked_at_ = now.steady;
    if (is_there(stop_file_)) {
        reason_ = "file " + stop_file_;
    } else if (limit_.is_due(now, needed_seconds())) {
        reason_ = limit_.describe(now);
    }
    return reason_;
}

void StopRequest::honour() {
    const struct sigaction action = action_of(SIG_IGN);
    for (const int number : kSignals) sigaction(number, &action, nullptr);
    if (watches_) unlink(stop_file_.c_str());
}

}  // namespace trireme
