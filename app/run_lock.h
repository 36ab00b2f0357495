#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "core/error.h"

namespace trireme {

// Who holds a run folder, as its lock file says. Times are no part of it: clocks of hosts differ.
struct RunLockOwner {
    std::string host;
    std::string system;  // tells processes of one numbering from others: boot and pid namespace
    int pid = 0;
    uint64_t started = 0;    // of the process, in the kernel's ticks, since numbers come again
    std::string job;         // the batch system's number, empty without
    int64_t job_starts = 0;  // how often that has started it again
    std::string id;          // of this start of the run
    uint64_t beats = 0;      // grows while the owner lives

    std::string who() const;  // "pid 4711 on node7 (job 12)"
};

RunLockOwner this_process();
std::string to_text(const RunLockOwner& owner);
std::optional<RunLockOwner> parse_lock_owner(const std::string& text);

enum class LockState {
    held,     // its owner lives
    stale,    // its owner is gone
    unknown,  // its owner is on another host: only whether its beats grow can tell
};
LockState judge_lock(const RunLockOwner& owner, const RunLockOwner& us);

// Keeps two runs from writing into one folder: a file run.lock that only one process can make.
class RunLock {
public:
    struct Options {
        // How long an owner on another host may show no beat. Beats come every five seconds.
        std::chrono::milliseconds patience{60000};
        // How long an owner on this host that lives is waited for: ranks whose launcher was killed
        // end within a second or two.
        std::chrono::milliseconds ending{4000};
        std::chrono::milliseconds between_looks{1000};
        std::function<void(const std::string&)> warn;  // a lock was taken over, or is waited for
    };

    // Throws Error (output_busy) naming the owner when another run is at work in the folder, Error
    // (io) when the file cannot be written. Takes a lock over whose owner is gone, with a warning.
    RunLock(const std::string& folder, const Options& options);
    ~RunLock();  // removes the file if it is still this one's
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;

    // Shows that the owner lives. Any one thread. False: the lock is not this process's any more.
    bool beat();

private:
    bool try_to_make();
    int write_new(const std::string& path) const;
    void remove_leftovers() const noexcept;
    Error refusal(const RunLockOwner& owner) const;
    std::optional<RunLockOwner> read_owner() const;
    static std::optional<RunLockOwner> read_owner(const std::string& path);
    bool is_ours() const;
    void wait_for_stale(const RunLockOwner& owner, const Options& options) const;
    bool take_over(const RunLockOwner& owner);

    const std::string path_;
    RunLockOwner us_;
    int descriptor_ = -1;
};

}  // namespace trireme
