#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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

    int64_t stored_position() const { return stored_position_; }  // bytes on disk read so far

private:
    bool fill();

    std::string path_;
    int fd_ = -1;
    ZSTD_DCtx_s* context_ = nullptr;
    std::vector<char> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    bool in_frame_ = false;
    bool is_flushing_ = false;
    int64_t stored_position_ = 0;
};

}  // namespace trireme
