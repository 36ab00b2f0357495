#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/descriptor.h"

namespace trireme {

// The bytes of a file on disk, a buffer at a time, for who unpacks them.
class StoredFile {
public:
    // Error(io) when it cannot be opened.
    StoredFile(const std::string& path, size_t buffer_bytes);
    // What was opened already, such as a pipe, or could not be, as errno tells; `path` is its name
    // in messages.
    StoredFile(const std::string& path, Descriptor file, size_t buffer_bytes);

    const std::string& path() const { return path_; }
    // What was read and not yet skipped.
    std::span<const char> left() const { return {buffer_.data() + begin_, end_ - begin_}; }
    void skip(size_t bytes) { begin_ += bytes; }
    // Reads on, behind what is left, which is less than the buffer; false at the end of the file.
    // Error(io) when the system fails.
    bool fill();
    int64_t position() const { return position_; }  // bytes read so far

private:
    std::string path_;
    Descriptor file_;
    std::vector<char> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    int64_t position_ = 0;
};

}  // namespace trireme
