#include "data/locked_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/file_io.h"

namespace trireme {
namespace {

[[noreturn]] void fail(ExitCode code, const std::string& what, int error) {
    throw Error(code, what + ": " + std::strerror(error));
}

bool is_still_at(int fd, const std::string& path) {
    struct stat open_file {
    }, named_file{};
    return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named_file) == 0 &&
           open_file.st_dev == named_file.st_dev && open_file.st_ino == named_file.st_ino;
}

// Below 0 when there is none and none is to be created. Only once the lock is held and the name
// still leads to this file it is ours: before, another writer may just have published it.
int open_locked(const std::string& path, bool creates) {
    const int flags = O_WRONLY | O_CLOEXEC | (creates ? O_CREAT : O_NONBLOCK);
    for (;;) {
        const int fd = ::open(path.c_str(), flags, 0666);
        if (fd < 0) {
            if (!creates && (errno == ENOENT || errno == EISDIR)) return -1;
            const std::string what = creates ? "cannot create " : "cannot open ";
            fail(output_error_code(errno), what + path, errno);
        }
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
            const int error = errno;
            ::close(fd);
            if (error == EWOULDBLOCK) {
                throw Error(ExitCode::output_busy,
                            path +
                                " is being written by another process; wait for it to end or "
                                "choose another output");
            }
            fail(output_error_code(error), "cannot lock " + path, error);
        }
        if (is_still_at(fd, path)) return fd;
        ::close(fd);
    }
}

}  // namespace

ExitCode output_error_code(int error) {
    const bool is_io =
        error == ENOSPC || error == EDQUOT || error == EIO || error == EMFILE || error == ENFILE;
    return is_io ? ExitCode::io : ExitCode::output_busy;
}

LockedFile LockedFile::create(const std::string& path) {
    return {path, open_locked(path, true)};
}

std::optional<LockedFile> LockedFile::find(const std::string& path) {
    const int fd = open_locked(path, false);
    if (fd < 0) return std::nullopt;
    return LockedFile(path, fd);
}

LockedFile::LockedFile(LockedFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

LockedFile::~LockedFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

void LockedFile::sync() {
    if (::fsync(descriptor_) != 0) fail(ExitCode::io, "syncing " + path_, errno);
}

void LockedFile::rename_to(const std::string& path) {
    sync();
    if (::rename(path_.c_str(), path.c_str()) != 0) {
        fail(ExitCode::output_busy, "cannot rename " + path_ + " to " + path, errno);
    }
    path_ = path;
    sync_folder(folder_of(path));
}

}  // namespace trireme
