#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <string>

// A library that is loaded before a program (LD_PRELOAD) and stands between it and the system's
// calls on files of one folder. It counts, records, delays, refuses or ends the process at one
// of them. Unlike a tracer it needs no rights and leaves all other calls alone.
//
//   FAULT_FOLDER   calls on paths below it (and on itself) count
//   FAULT_CALL     open, write, fsync, close, rename, unlink or mkdir
//   FAULT_AT       which of these calls, from 1
//   FAULT_ACTION   kill, kill-after, tear (writes half, then kills), or an errno: ENOSPC, EIO
//   FAULT_LOG      where "CALL COUNT" lines are written at the process's end
//   FAULT_RECORD   folder for a record of all calls that succeed, with the bytes written
//   FAULT_DELAY    seconds that each fsync takes longer

namespace {

std::string setting(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::string absolute(int folder, const char* path) {
    if (path[0] == '/') return path;
    char link[64], base[4096] = "";
    if (folder == AT_FDCWD) {
        if (getcwd(base, sizeof base) == nullptr) return path;
    } else {
        std::snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        const ssize_t n = readlink(link, base, sizeof base - 1);
        base[n < 0 ? 0 : n] = '\0';
    }
    return std::string(base) + "/" + path;
}

class Injector {
public:
    Injector()
        : folder_(setting("FAULT_FOLDER")),
          call_(setting("FAULT_CALL")),
          action_(setting("FAULT_ACTION")),
          record_(setting("FAULT_RECORD")),
          log_(setting("FAULT_LOG")),
          at_(std::atoi(setting("FAULT_AT").c_str())),
          delay_(std::atof(setting("FAULT_DELAY").c_str())) {}
    ~Injector() {
        if (log_.empty()) return;
        std::string text;
        for (const auto& [call, count] : counts_) text += call + " " + std::to_string(count) + "\n";
        const int out = raw_open(log_);
        raw_write(out, text);
        syscall(SYS_close, out);
    }

    bool watches(const std::string& path) const {
        return !folder_.empty() && path.compare(0, folder_.size(), folder_) == 0 &&
               (path.size() == folder_.size() || path[folder_.size()] == '/');
    }

    // Counts a call. True when it is the one to refuse, with errno set. `bytes` of a write that
    // is torn are written by `half`.
    template <typename Half>
    bool refuses(const char* call, const Half& half) {
        ++counts_[call];
        if (call_ != call || counts_[call] != at_) return false;
        if (action_ == "kill") end();
        if (action_ == "tear") {
            half();
            end();
        }
        if (action_ == "kill-after") return false;
        errno = action_ == "ENOSPC" ? ENOSPC : EIO;
        return true;
    }
    bool refuses(const char* call) {
        return refuses(call, [] {});
    }

    void done(const char* call, const std::string& path, const std::string& more = {},
              const void* data = nullptr, size_t bytes = 0) {
        if (!record_.empty()) {
            ++recorded_;
            if (data != nullptr) {
                const int blob = raw_open(record_ + "/" + std::to_string(recorded_));
                raw_write(blob, std::string(static_cast<const char*>(data), bytes));
                syscall(SYS_close, blob);
            }
            const int out = raw_open(record_ + "/calls");
            raw_write(out, std::string(call) + "\t" + path + "\t" + more + "\n");
            syscall(SYS_close, out);
        }
        if (action_ == "kill-after" && call_ == call && counts_[call] == at_) end();
    }

    void delay() const {
        timespec left{
            static_cast<time_t>(delay_),
            static_cast<long>((delay_ - static_cast<double>(static_cast<time_t>(delay_))) * 1e9)};
        if (delay_ > 0) nanosleep(&left, nullptr);
    }

    std::mutex mutex;
    std::map<int, std::string> open_files;  // those that are watched

private:
    [[noreturn]] static void end() {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    static int raw_open(const std::string& path) {
        return static_cast<int>(
            syscall(SYS_openat, AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644));
    }
    static void raw_write(int file, const std::string& text) {
        for (size_t done = 0; done < text.size();) {
            const long n = syscall(SYS_write, file, text.data() + done, text.size() - done);
            if (n <= 0) return;
            done += static_cast<size_t>(n);
        }
    }

    const std::string folder_, call_, action_, record_, log_;
    const int at_;
    const double delay_;
    std::map<std::string, int> counts_;
    int recorded_ = 0;
};

Injector& injector() {
    static Injector one;
    return one;
}

int watched_open(int folder, const char* name, int flags, mode_t mode) {
    const auto call = [&] {
        return static_cast<int>(syscall(SYS_openat, folder, name, flags, mode));
    };
    Injector& injector = ::injector();
    const std::string path = absolute(folder, name);
    if (!injector.watches(path)) return call();
    const std::lock_guard lock(injector.mutex);
    const bool writes = (flags & O_CREAT) != 0;
    if (writes && injector.refuses("open")) return -1;
    const int file = call();
    if (file < 0) return file;
    injector.open_files[file] = path;
    if (writes) injector.done("open", path, (flags & O_TRUNC) != 0 ? "empty" : "");
    return file;
}

int watched_rename(int from_folder, const char* from, int to_folder, const char* to,
                   unsigned flags) {
    const auto call = [&] {
        return static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
    };
    Injector& injector = ::injector();
    const std::string path = absolute(from_folder, from);
    if (!injector.watches(path)) return call();
    const std::lock_guard lock(injector.mutex);
    if (injector.refuses("rename")) return -1;
    const int result = call();
    if (result == 0) {
        injector.done(flags == RENAME_EXCHANGE ? "exchange" : "rename", path,
                      absolute(to_folder, to));
    }
    return result;
}

int watched_unlink(int folder, const char* name, int flags) {
    const auto call = [&] { return static_cast<int>(syscall(SYS_unlinkat, folder, name, flags)); };
    Injector& injector = ::injector();
    const std::string path = absolute(folder, name);
    if (!injector.watches(path)) return call();
    const std::lock_guard lock(injector.mutex);
    if (injector.refuses("unlink")) return -1;
    const int result = call();
    if (result == 0) injector.done("unlink", path);
    return result;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return watched_open(AT_FDCWD, path, flags, mode);
}

int open64(const char* path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return watched_open(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
    va_end(list);
    return watched_open(folder, path, flags, mode);
}

ssize_t write(int file, const void* data, size_t bytes) {
    const auto call = [&](size_t count) {
        return static_cast<ssize_t>(syscall(SYS_write, file, data, count));
    };
    Injector& injector = ::injector();
    std::unique_lock lock(injector.mutex);
    const auto found = injector.open_files.find(file);
    if (found == injector.open_files.end()) {
        lock.unlock();
        return call(bytes);
    }
    if (injector.refuses("write", [&] { call(bytes / 2); })) return -1;
    const ssize_t result = call(bytes);
    if (result > 0) {
        injector.done("write", found->second, "", data, static_cast<size_t>(result));
    }
    return result;
}

int fsync(int file) {
    Injector& injector = ::injector();
    std::unique_lock lock(injector.mutex);
    const auto found = injector.open_files.find(file);
    if (found == injector.open_files.end()) {
        lock.unlock();
        return static_cast<int>(syscall(SYS_fsync, file));
    }
    if (injector.refuses("fsync")) return -1;
    const std::string path = found->second;
    const int result = static_cast<int>(syscall(SYS_fsync, file));
    if (result == 0) injector.done("fsync", path);
    lock.unlock();
    injector.delay();
    return result;
}

int close(int file) {
    Injector& injector = ::injector();
    const std::lock_guard lock(injector.mutex);
    const auto found = injector.open_files.find(file);
    if (found == injector.open_files.end()) return static_cast<int>(syscall(SYS_close, file));
    const bool refused = injector.refuses("close");
    const int result = static_cast<int>(syscall(SYS_close, file));
    const std::string path = found->second;
    injector.open_files.erase(found);
    if (refused) {
        errno = EIO;
        return -1;
    }
    injector.done("close", path);
    return result;
}

// Only read from, so nothing counts; but the number must not pass for the folder's any longer.
int closedir(DIR* folder) {
    Injector& injector = ::injector();
    static const auto real = reinterpret_cast<int (*)(DIR*)>(dlsym(RTLD_NEXT, "closedir"));
    const std::lock_guard lock(injector.mutex);
    injector.open_files.erase(dirfd(folder));
    return real(folder);
}

int mkdir(const char* name, mode_t mode) {
    Injector& injector = ::injector();
    const std::string path = absolute(AT_FDCWD, name);
    if (!injector.watches(path)) return static_cast<int>(syscall(SYS_mkdir, name, mode));
    const std::lock_guard lock(injector.mutex);
    if (injector.refuses("mkdir")) return -1;
    const int result = static_cast<int>(syscall(SYS_mkdir, name, mode));
    if (result == 0) injector.done("mkdir", path);
    return result;
}

int rename(const char* from, const char* to) {
    return watched_rename(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
    return watched_rename(from_folder, from, to_folder, to, flags);
}

int unlink(const char* path) {
    return watched_unlink(AT_FDCWD, path, 0);
}

int rmdir(const char* path) {
    return watched_unlink(AT_FDCWD, path, AT_REMOVEDIR);
}

int unlinkat(int folder, const char* path, int flags) {
    return watched_unlink(folder, path, flags);
}

int remove(const char* path) {
    const int result = watched_unlink(AT_FDCWD, path, 0);
    if (result == 0 || errno != EISDIR) return result;
    return watched_unlink(AT_FDCWD, path, AT_REMOVEDIR);
}

}  // extern "C"
