#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/stored_file.h"

struct ZSTD_DCtx_s;

namespace trireme {

// A zstd file unpacked from front to back; several frames in a row are one text.
class ZstdFile {
public:
    // Error(io) when it cannot be opened.
    explicit ZstdFile(const std::string& path);
    ~ZstdFile();
    ZstdFile(const ZstdFile&) = delete;
    ZstdFile& operator=(const ZstdFile&) = delete;

    // Up to `bytes` bytes of text, 0 only at the end. Error(bad_data) when the file is damaged, cut
    // off, not zstd, or asks for a window above 128 MiB; Error(io) when the system fails.
    size_t read(char* to, size_t bytes);

    int64_t stored_position() const { return file_.position(); }  // bytes on disk read so far

private:
    StoredFile file_;
    ZSTD_DCtx_s* context_ = nullptr;
    bool in_frame_ = false;
    bool is_flushing_ = false;
};

}  // namespace trireme
