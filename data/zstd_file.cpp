#include "data/zstd_file.h"

#include <zstd.h>

#include <new>

#include "core/error.h"

namespace trireme {

ZstdFile::ZstdFile(const std::string& path)
    : file_(path, ::ZSTD_DStreamInSize()), context_(::ZSTD_createDCtx()) {
    if (context_ == nullptr) throw std::bad_alloc();
}

ZstdFile::~ZstdFile() {
    ::ZSTD_freeDCtx(context_);
}

size_t ZstdFile::read(char* to, size_t bytes) {
    const auto fail = [&](const std::string& what) {
        throw Error(ExitCode::bad_data, "input " + file_.path() +
                                            " is damaged, cut off or no zstd near byte " +
                                            std::to_string(file_.position()) + ": " + what);
    };
    ZSTD_outBuffer out{to, bytes, 0};
    while (out.pos == 0) {
        // A full output may have left more of the text in the context.
        if (file_.left().empty() && !is_flushing_ && !file_.fill()) {
            // What a frame holds back when its input ends is missing for good.
            if (in_frame_) fail("the last frame is not whole");
            if (file_.position() == 0) fail("the file is empty");
            return 0;
        }
        ZSTD_inBuffer in{file_.left().data(), file_.left().size(), 0};
        const size_t left = ::ZSTD_decompressStream(context_, &out, &in);
        if (::ZSTD_isError(left) != 0) fail(::ZSTD_getErrorName(left));
        file_.skip(in.pos);
        in_frame_ = left != 0;
        is_flushing_ = left != 0 && out.pos == out.size;
    }
    return out.pos;
}

}  // namespace trireme
