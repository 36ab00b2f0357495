#include "data/stored_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace trireme {

StoredFile::StoredFile(const std::string& path, size_t buffer_bytes)
    : StoredFile(path, Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), buffer_bytes) {}

StoredFile::StoredFile(const std::string& path, Descriptor file, size_t buffer_bytes)
    : path_(path), file_(std::move(file)) {
    if (!file_.is_open()) {
        throw Error(ExitCode::io, "cannot open input " + path + ": " + std::strerror(errno));
    }
    buffer_.resize(buffer_bytes);
}

bool StoredFile::fill() {
    if (begin_ == end_) begin_ = end_ = 0;
    ssize_t n = 0;
    do n = ::read(file_.number(), buffer_.data() + end_, buffer_.size() - end_);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        throw Error(ExitCode::io, "reading input " + path_ + ": " + std::strerror(errno));
    }
    end_ += static_cast<size_t>(n);
    position_ += n;
    return n > 0;
}

}  // namespace trireme
