#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace trireme {

// The bytes of a file on disk, a buffer at a time, for who unpacks them.
class StoredFile {
public:
    // Error(io) when it cannot be opened.
    StoredFile(const std::string& path, size_t buffer_bytes);
    ~StoredFile();
    StoredFile(const StoredFile&) = delete;
    StoredFile& operator=(const StoredFile&) = delete;

    const std::string& path() const { return path_; }
    // What was read and not yet skipped.
    std::span<const char> left() const { return {buffer_.data() + begin_, end_ - begin_}; }
    void skip(size_t bytes) { begin_ += bytes; }
    // Reads on, once nothing is left; false at the end of the file. Error(io) when the system
    // fails.
    bool fill();
    int64_t position() const { return position_; }  // bytes read so far

private:
    std::string path_;
    int fd_ = -1;
    std::vector<char> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    int64_t position_ = 0;
};

}  // namespace trireme
