#include "data/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace trireme {

InputFile::InputFile(const std::string& path) : path_(path) {
    // Without O_NONBLOCK a named pipe would block here before it can be refused.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) {
        const int error = errno;
        const bool missing = error == ENOENT || error == ENOTDIR;
        throw Error(missing ? ExitCode::bad_data : ExitCode::io,
                    "cannot open " + path + ": " + std::strerror(error));
    }
    struct stat status {};
    if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
        ::close(fd_);
        throw Error(ExitCode::bad_data, path + " is not a regular file");
    }
    size_ = status.st_size;
}

InputFile::~InputFile() {
    if (fd_ >= 0) ::close(fd_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

void InputFile::read(int64_t offset, void* to, int64_t bytes) const {
    char* out = static_cast<char*>(to);
    int64_t done = 0;
    while (done < bytes) {
        const ssize_t n =
            ::pread(fd_, out + done, static_cast<size_t>(bytes - done), offset + done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            throw Error(ExitCode::io, "reading " + path_ + " at offset " +
                                          std::to_string(offset + done) + ": " +
                                          std::strerror(errno));
        }
        if (n == 0) {
            throw Error(ExitCode::bad_data,
                        path_ + " ends at byte " + std::to_string(offset + done) + ", expected " +
                            std::to_string(offset + bytes) + " bytes (it had " +
                            std::to_string(size_) +
                            " when opened); do not change a dataset while it is in use");
        }
        done += n;
    }
}

}  // namespace trireme
