#include "data/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "core/file_io.h"

namespace trireme {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

[[noreturn]] void fail(ExitCode code, const std::string& what, int error) {
    throw Error(code, what + ": " + std::strerror(error));
}

// A full or failing disk and too many open files say nothing against the path itself.
ExitCode code_of(int error) {
    const bool is_io =
        error == ENOSPC || error == EDQUOT || error == EIO || error == EMFILE || error == ENFILE;
    return is_io ? ExitCode::io : ExitCode::output_busy;
}

bool is_still_at(int fd, const std::string& path) {
    struct stat open_file {
    }, named_file{};
    return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named_file) == 0 &&
           open_file.st_dev == named_file.st_dev && open_file.st_ino == named_file.st_ino;
}

// Truncates only after the lock is held and the name still leads to this file: otherwise another
// writer may just have published it.
int open_locked(const std::string& path, int64_t resume_at) {
    for (;;) {
        const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (fd < 0) fail(code_of(errno), "cannot create " + path, errno);
        int error = 0;
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
            error = errno;
        } else if (!is_still_at(fd, path)) {
            ::close(fd);
            continue;
        } else if (struct stat status{}; ::fstat(fd, &status) != 0) {
            error = errno;
        } else if (status.st_size < resume_at) {
            ::close(fd);
            throw Error(ExitCode::bad_data, path + " has " + std::to_string(status.st_size) +
                                                " bytes, expected at least " +
                                                std::to_string(resume_at));
        } else if (::ftruncate(fd, resume_at) != 0 || ::lseek(fd, resume_at, SEEK_SET) < 0) {
            error = errno;
        }
        if (error == 0) return fd;
        ::close(fd);
        if (error == EWOULDBLOCK) {
            throw Error(ExitCode::output_busy,
                        path +
                            " is being written by another process; wait for it to end or "
                            "choose another output");
        }
        fail(code_of(error), "cannot create " + path, error);
    }
}

}  // namespace

void remove_former(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        throw Error(ExitCode::output_busy, "cannot replace " + path + ": " + std::strerror(errno));
    }
}

OutputFile::OutputFile(const std::string& path, int64_t resume_at)
    : path_(path), partial_path_(path + ".partial"), keeps_(resume_at > 0) {
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    if (!folder.empty()) {
        std::error_code error;
        std::filesystem::create_directories(folder, error);
        if (error) {
            throw Error(code_of(error.value()),
                        "cannot create folder " + folder.string() + ": " + error.message());
        }
    }
    buffer_.reserve(kBufferBytes);
    fd_ = open_locked(partial_path_, resume_at);
}

OutputFile::~OutputFile() {
    if (fd_ < 0) return;
    if (!keeps_) ::unlink(partial_path_.c_str());
    ::close(fd_);
}

void OutputFile::write(const void* from, size_t bytes) {
    const char* data = static_cast<const char*>(from);
    while (bytes > 0) {
        const size_t n = std::min(bytes, kBufferBytes - buffer_.size());
        buffer_.insert(buffer_.end(), data, data + n);
        data += n;
        bytes -= n;
        if (buffer_.size() == kBufferBytes) flush();
    }
}

void OutputFile::flush() {
    size_t done = 0;
    while (done < buffer_.size()) {
        const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(ExitCode::io, "writing " + partial_path_, errno);
        done += static_cast<size_t>(n);
    }
    buffer_.clear();
}

void OutputFile::sync() {
    flush();
    if (::fsync(fd_) != 0) fail(ExitCode::io, "syncing " + partial_path_, errno);
}

void OutputFile::publish() {
    sync();
    if (::rename(partial_path_.c_str(), path_.c_str()) != 0) {
        fail(ExitCode::output_busy, "cannot rename " + partial_path_ + " to " + path_, errno);
    }
    ::close(fd_);
    fd_ = -1;
    sync_folder(folder_of(path_));
}

}  // namespace trireme
