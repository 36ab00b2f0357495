#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

struct gzFile_s;

namespace trireme {

// A text file read from front to back; gzip and dictzip are unpacked on the way.
class TextFile {
public:
    // Error(bad_data) when the file is missing or a folder.
    explicit TextFile(const std::string& path);
    ~TextFile();
    TextFile(const TextFile&) = delete;
    TextFile& operator=(const TextFile&) = delete;

    const std::string& path() const { return path_; }

    // Reads up to `bytes` bytes of text; 0 only at the end. Error(bad_data) when a compressed file
    // is damaged, cut off or not compressed at all, Error(io) when the system fails.
    size_t read(char* to, size_t bytes);

    int64_t stored_size() const { return stored_size_; }  // bytes on disk
    int64_t stored_position() const;                      // bytes of those read so far

private:
    std::string path_;
    gzFile_s* file_ = nullptr;
    int64_t stored_size_ = 0;
};

// Bytes of text in the file; reads a compressed file through.
int64_t text_size(const std::string& path);

}  // namespace trireme
