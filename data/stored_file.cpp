#include "data/stored_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace trireme {

StoredFile::StoredFile(const std::string& path, size_t buffer_bytes)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), buffer_(buffer_bytes) {
    if (fd_ < 0) {
        throw Error(ExitCode::io, "cannot open input " + path + ": " + std::strerror(errno));
    }
}

StoredFile::~StoredFile() {
    ::close(fd_);
}

bool StoredFile::fill() {
    ssize_t n = 0;
    do n = ::read(fd_, buffer_.data(), buffer_.size());
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        throw Error(ExitCode::io, "reading input " + path_ + ": " + std::strerror(errno));
    }
    begin_ = 0;
    end_ = static_cast<size_t>(n);
    position_ += n;
    return n > 0;
}

}  // namespace trireme
