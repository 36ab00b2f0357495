#include "data/gzip_file.h"

#include <zlib.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core/error.h"

namespace trireme {

namespace {

constexpr size_t kMostAtOnce = size_t{1} << 30;  // of what zlib counts in 32 bits
constexpr int kGzipOnly = 16;                    // added to the window's bits

}  // namespace

GzipFile::GzipFile(StoredFile file)
    : file_(std::move(file)), stream_(std::make_unique<z_stream_s>()) {
    if (::inflateInit2(stream_.get(), MAX_WBITS + kGzipOnly) != Z_OK) throw std::bad_alloc();
}

GzipFile::~GzipFile() {
    ::inflateEnd(stream_.get());
}

void GzipFile::fail(const std::string& what) const {
    throw Error(ExitCode::bad_data, "input " + file_.path() + " is damaged or cut off near byte " +
                                        std::to_string(stored_position()) + ": " + what);
}

// False at the end of the file.
bool GzipFile::begin_member() {
    bool is_padded = false;
    while (true) {
        if (file_.left().empty() && !file_.fill()) return false;
        if (file_.left().front() != 0) break;
        file_.skip(1);
        is_padded = true;
    }
    if (is_padded) fail("zero bytes, and then others");
    ::inflateReset(stream_.get());
    in_member_ = true;
    return true;
}

size_t GzipFile::read(char* to, size_t bytes) {
    const auto wanted = static_cast<unsigned>(std::min(bytes, kMostAtOnce));
    z_stream_s& stream = *stream_;
    stream.next_out = reinterpret_cast<Bytef*>(to);
    stream.avail_out = wanted;
    while (stream.avail_out == wanted) {
        if (!in_member_ && !begin_member()) return 0;
        if (file_.left().empty() && !is_full_ && !file_.fill())
            fail("the last member is not whole");
        const auto left = file_.left();
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(left.data()));
        stream.avail_in = static_cast<unsigned>(left.size());
        const int code = ::inflate(&stream, Z_NO_FLUSH);
        file_.skip(left.size() - stream.avail_in);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
            fail(stream.msg != nullptr ? stream.msg : "zlib's error " + std::to_string(code));
        }
        in_member_ = code != Z_STREAM_END;
        is_full_ = in_member_ && stream.avail_out == 0;
    }
    return wanted - stream.avail_out;
}

}  // namespace trireme
