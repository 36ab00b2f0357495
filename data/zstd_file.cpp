#include "data/zstd_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "core/error.h"

namespace trireme {

ZstdFile::ZstdFile(const std::string& path)
    : path_(path),
      fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)),
      buffer_(::ZSTD_DStreamInSize()) {
    if (fd_ < 0) {
        throw Error(ExitCode::io, "cannot open input " + path + ": " + std::strerror(errno));
    }
    context_ = ::ZSTD_createDCtx();
    if (context_ == nullptr) {
        ::close(fd_);
        throw std::bad_alloc();
    }
}

ZstdFile::~ZstdFile() {
    ::ZSTD_freeDCtx(context_);
    ::close(fd_);
}

bool ZstdFile::fill() {
    ssize_t n = 0;
    do n = ::read(fd_, buffer_.data(), buffer_.size());
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        throw Error(ExitCode::io, "reading input " + path_ + ": " + std::strerror(errno));
    }
    begin_ = 0;
    end_ = static_cast<size_t>(n);
    stored_position_ += n;
    return n > 0;
}

size_t ZstdFile::read(char* to, size_t bytes) {
    const auto fail = [&](const std::string& what) {
        throw Error(ExitCode::bad_data, "input " + path_ +
                                            " is damaged, cut off or no zstd near byte " +
                                            std::to_string(stored_position_) + ": " + what);
    };
    ZSTD_outBuffer out{to, bytes, 0};
    while (out.pos == 0) {
        // A full output may have left more of the text in the context.
        if (begin_ == end_ && !is_flushing_ && !fill()) {
            // What a frame holds back when its input ends is missing for good.
            if (in_frame_) fail("the last frame is not whole");
            if (stored_position_ == 0) fail("the file is empty");
            return 0;
        }
        ZSTD_inBuffer in{buffer_.data(), end_, begin_};
        const size_t left = ::ZSTD_decompressStream(context_, &out, &in);
        if (::ZSTD_isError(left) != 0) fail(::ZSTD_getErrorName(left));
        begin_ = in.pos;
        in_frame_ = left != 0;
        is_flushing_ = left != 0 && out.pos == out.size;
    }
    return out.pos;
}

}  // namespace trireme
