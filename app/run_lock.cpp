#include "app/run_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "core/descriptor.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/host_name.h"
#include "core/random_id.h"

namespace trireme {

namespace {

constexpr size_t kMostBytes = 4096;

// A field of /proc/PID/stat after the name, counted as proc(5) does, which begins it with 3.
uint64_t start_of_process(int pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) return 0;
    std::istringstream fields(text.substr(name_end + 1));
    std::string field;
    for (int i = 3; i <= 22; ++i) fields >> field;
    return std::strtoull(field.c_str(), nullptr, 10);
}

std::string system_id() {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string boot;
    file >> boot;
    std::array<char, 64> space{};
    if (readlink("/proc/self/ns/pid", space.data(), space.size() - 1) < 0) space[0] = '-';
    return boot + "/" + space.data();
}

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

std::string read_descriptor(int descriptor) {
    std::string text(kMostBytes, '\0');
    const ssize_t got = pread(descriptor, text.data(), text.size(), 0);
    if (got < 0) {
        throw Error(ExitCode::io, std::string("run.lock cannot be read: ") + std::strerror(errno));
    }
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
}

// False with errno set.
bool write_whole(int descriptor, const std::string& text) {
    const ssize_t written = pwrite(descriptor, text.data(), text.size(), 0);
    if (written >= 0 && written < static_cast<ssize_t>(text.size())) errno = ENOSPC;
    return written == static_cast<ssize_t>(text.size());
}

Error failure(const std::string& path, const char* what) {
    const int reason = errno;
    return Error(reason == EACCES || reason == EROFS || reason == EPERM ? ExitCode::output_busy
                                                                        : ExitCode::io,
                 path + ": " + what + ": " + std::strerror(reason) +
                     "; check the folder's owner and mode, and the disk");
}

}  // namespace

std::string RunLockOwner::who() const {
    return "pid " + std::to_string(pid) + " on " + host + (job.empty() ? "" : " (job " + job + ")");
}

RunLockOwner this_process() {
    RunLockOwner us;
    us.host = own_host_name();
    us.system = system_id();
    us.pid = static_cast<int>(getpid());
    us.started = start_of_process(us.pid);
    us.job = environment("SLURM_JOB_ID");
    us.job_starts = std::strtoll(environment("SLURM_RESTART_COUNT").c_str(), nullptr, 10);
    us.id = random_id(32);
    return us;
}

std::string to_text(const RunLockOwner& owner) {
    std::array<char, 32> beats{};  // of one width: it is written over in place
    std::snprintf(beats.data(), beats.size(), "%020llu",
                  static_cast<unsigned long long>(owner.beats));
    return "host " + owner.host + "\nsystem " + owner.system + "\npid " +
           std::to_string(owner.pid) + "\nstarted " + std::to_string(owner.started) + "\njob " +
           (owner.job.empty() ? "-" : owner.job) + "\njob_starts " +
           std::to_string(owner.job_starts) + "\nid " + owner.id + "\nbeats " + beats.data() + "\n";
}

std::optional<RunLockOwner> parse_lock_owner(const std::string& text) {
    RunLockOwner owner;
    std::istringstream in(text);
    std::string key;
    while (in >> key) {
        if (key == "host")
            in >> owner.host;
        else if (key == "system")
            in >> owner.system;
        else if (key == "pid")
            in >> owner.pid;
        else if (key == "started")
            in >> owner.started;
        else if (key == "job")
            in >> owner.job;
        else if (key == "job_starts")
            in >> owner.job_starts;
        else if (key == "id")
            in >> owner.id;
        else if (key == "beats")
            in >> owner.beats;
        else
            return std::nullopt;
        if (!in) return std::nullopt;
    }
    if (owner.job == "-") owner.job.clear();
    if (owner.host.empty() || owner.id.empty() || owner.pid <= 0) return std::nullopt;
    return owner;
}

LockState judge_lock(const RunLockOwner& owner, const RunLockOwner& us) {
    if (owner.host == us.host && owner.system == us.system) {
        const bool lives = kill(owner.pid, 0) == 0 || errno == EPERM;
        return lives && start_of_process(owner.pid) == owner.started ? LockState::held
                                                                     : LockState::stale;
    }
    // A batch system does not start a job again before it has ended.
    if (!owner.job.empty() && owner.job == us.job && us.job_starts > owner.job_starts) {
        return LockState::stale;
    }
    return LockState::unknown;
}

RunLock::RunLock(const std::string& folder, const Options& options)
    : path_(folder + "/run.lock"), us_(this_process()) {
    const auto begin = std::chrono::steady_clock::now();
    int contended = 0;
    while (!try_to_make()) {
        const std::optional<RunLockOwner> owner = read_owner();
        const bool is_early = std::chrono::steady_clock::now() - begin < options.ending;
        if (!owner) {
            // Just being written, just removed, or the remains of a full disk.
            if (!is_early) {
                throw Error(ExitCode::output_busy,
                            path_ +
                                ": found a lock file that names no owner; if no run is at work "
                                "in this folder, delete it");
            }
            std::this_thread::sleep_for(options.between_looks / 5);
            continue;
        }
        const LockState state = judge_lock(*owner, us_);
        if (state == LockState::held) {
            if (!is_early) throw refusal(*owner);
            std::this_thread::sleep_for(options.between_looks / 5);
            continue;
        }
        if (state == LockState::unknown) {
            if (options.warn) {
                options.warn(path_ + ": " + owner->who() + " may be at work in this folder; " +
                             "waiting up to " + std::to_string(options.patience.count() / 1000) +
                             " s for a sign of life");
            }
            wait_for_stale(*owner, options);  // throws when there is one
        }
        if (take_over(*owner)) {
            if (options.warn) {
                options.warn(path_ + ": taken over from " + owner->who() +
                             ", which has ended without removing it");
            }
            break;
        }
        if (++contended > 100) throw refusal(*owner);
    }
    remove_leftovers();
}

RunLock::~RunLock() {
    if (descriptor_ < 0) return;
    if (is_ours()) unlink(path_.c_str());
    close(descriptor_);
}

// The file gets its name when it is whole, so that a process killed here leaves none that names no
// owner. Where that cannot be, as on file systems without second names, it is made under its name.
bool RunLock::try_to_make() {
    if (access(path_.c_str(), F_OK) == 0) return false;  // writes nothing
    const std::string fresh = path_ + "." + us_.id;
    Descriptor file(write_new(fresh));
    const int problem = link(fresh.c_str(), path_.c_str()) == 0 ? 0 : errno;
    const bool is_made = problem == 0 || is_at(path_, file.number());  // NFS may lose the answer
    unlink(fresh.c_str());
    if (problem == EEXIST && !is_made) return false;
    descriptor_ = is_made ? file.release() : write_new(path_);
    return descriptor_ >= 0;
}

// The descriptor of a file that names this process; -1 where the lock has been made meanwhile.
int RunLock::write_new(const std::string& path) const {
    Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!file.is_open()) {
        if (errno == EEXIST && path == path_) return -1;
        throw failure(path_, "cannot be made");
    }
    if (!write_whole(file.number(), to_text(us_)) || fsync(file.number()) != 0) {
        const Error error = failure(path_, "cannot be written");
        unlink(path.c_str());
        throw error;
    }
    return file.release();
}

// Of processes that were killed while they made the lock. What cannot be read stays.
void RunLock::remove_leftovers() const noexcept try {
    const std::filesystem::path lock = path_;
    const std::string prefix = lock.filename().string() + ".";
    for (const auto& entry : std::filesystem::directory_iterator(lock.parent_path())) {
        const std::string path = entry.path().string();
        if (entry.path().filename().string().rfind(prefix, 0) != 0) continue;
        const std::optional<RunLockOwner> owner = read_owner(path);
        if (owner && judge_lock(*owner, us_) == LockState::stale) unlink(path.c_str());
    }
} catch (const std::exception&) {
}

Error RunLock::refusal(const RunLockOwner& owner) const {
    return Error(ExitCode::output_busy, "run.output: another run is at work in this folder: " +
                                            owner.who() + ", found in " + path_ +
                                            "; wait for it, stop it, or choose another run.output");
}

std::optional<RunLockOwner> RunLock::read_owner() const {
    return read_owner(path_);
}

std::optional<RunLockOwner> RunLock::read_owner(const std::string& path) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.is_open()) {
        if (errno == ENOENT) return std::nullopt;
        throw failure(path, "cannot be read");
    }
    return parse_lock_owner(read_descriptor(file.number()));
}

void RunLock::wait_for_stale(const RunLockOwner& owner, const Options& options) const {
    const auto end = std::chrono::steady_clock::now() + options.patience;
    while (std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(options.between_looks);
        const std::optional<RunLockOwner> now = read_owner();
        if (!now) return;  // removed: the next attempt makes it
        if (now->id == owner.id && now->beats == owner.beats) continue;
        throw refusal(*now);
    }
}

// Those who want the same stale lock take turns by flock; the file that is replaced is looked at
// again first.
bool RunLock::take_over(const RunLockOwner& owner) {
    Descriptor old(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!old.is_open() || flock(old.number(), LOCK_EX | LOCK_NB) != 0) return false;
    const std::optional<RunLockOwner> now = parse_lock_owner(read_descriptor(old.number()));
    if (!now || now->id != owner.id || now->beats != owner.beats || !is_at(path_, old.number())) {
        return false;
    }
    const std::string fresh = path_ + "." + us_.id;
    Descriptor file(write_new(fresh));
    if (rename(fresh.c_str(), path_.c_str()) != 0) {
        const Error error = failure(path_, "cannot be replaced");
        unlink(fresh.c_str());
        throw error;
    }
    descriptor_ = file.release();
    return true;
}

bool RunLock::is_ours() const {
    try {
        const std::optional<RunLockOwner> now = read_owner();
        return now && now->id == us_.id;
    } catch (const Error&) {
        return true;  // the file system does not answer; nobody else has taken it
    }
}

bool RunLock::beat() {
    if (!is_ours()) return false;
    ++us_.beats;
    write_whole(descriptor_, to_text(us_));  // a full disk is the checkpoint's business
    return true;
}

}  // namespace trireme
