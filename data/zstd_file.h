#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/packed_file.h"
#include "data/stored_file.h"

struct ZSTD_DCtx_s;

namespace trireme {

// A zstd file unpacked from front to back; several frames in a row are one text.
class ZstdFile final : public PackedFile {
public:
    // Error(io) when it cannot be opened.
    explicit ZstdFile(const std::string& path);
    ~ZstdFile() override;
    ZstdFile(const ZstdFile&) = delete;
    ZstdFile& operator=(const ZstdFile&) = delete;

    // Error(bad_data) also when it is not zstd, or asks for a window above 128 MiB.
    size_t read(char* to, size_t bytes) override;

    int64_t stored_position() const override { return file_.position(); }

private:
    StoredFile file_;
    ZSTD_DCtx_s* context_ = nullptr;
    bool in_frame_ = false;
    bool is_flushing_ = false;
};

}  // namespace trireme
