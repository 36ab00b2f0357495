#include "data/stored_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
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
    const size_t n = read_on(buffer_.data() + end_, buffer_.size() - end_);
    end_ += n;
    return n > 0;
}

size_t StoredFile::read(char* to, size_t bytes) {
    size_t done = std::min(bytes, left().size());
    std::copy_n(left().data(), done, to);
    skip(done);
    while (done < bytes) {
        const size_t n = read_on(to + done, bytes - done);
        if (n == 0) break;
        done += n;
    }
    return done;
}

void StoredFile::seek(int64_t position) {
    if (::lseek(file_.number(), position, SEEK_SET) != position) {
        throw Error(ExitCode::io, "cannot go to byte " + std::to_string(position) + " of input " +
                                      path_ + ": " + std::strerror(errno));
    }
    begin_ = end_ = 0;
    read_ = position;
}

size_t StoredFile::read_on(char* to, size_t bytes) {
    ssize_t n = 0;
    do n = ::read(file_.number(), to, bytes);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        throw Error(ExitCode::io, "reading input " + path_ + ": " + std::strerror(errno));
    }
    read_ += n;
    return static_cast<size_t>(n);
}

}  // namespace trireme
