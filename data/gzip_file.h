#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "data/packed_file.h"
#include "data/stored_file.h"

struct z_stream_s;

namespace trireme {

// A gzip file unpacked from front to back; several members in a row are one text, zero bytes after
// the last are padding. What zlib's own gzread passes over in silence, bytes after a member that
// begin no other, is an error here: they are a text that would be lost.
class GzipFile final : public PackedFile {
public:
    // From the first byte that is left in it.
    explicit GzipFile(StoredFile file);
    ~GzipFile() override;
    GzipFile(const GzipFile&) = delete;
    GzipFile& operator=(const GzipFile&) = delete;

    size_t read(char* to, size_t bytes) override;

    int64_t stored_position() const override { return file_.position(); }

private:
    bool begin_member();
    [[noreturn]] void fail(const std::string& what) const;

    StoredFile file_;
    std::unique_ptr<z_stream_s> stream_;
    bool in_member_ = false;
    bool is_full_ = false;  // the caller's memory was, so that zlib may hold more text
};

}  // namespace trireme
