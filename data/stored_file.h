#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/descriptor.h"

namespace trireme {

// The bytes of a file or a pipe from front to back, a buffer at a time for who unpacks them.
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
    // The next bytes, fewer than asked for only at the end of the file. What is not in the buffer
    // yet goes past it. Error(io) when the system fails.
    size_t read(char* to, size_t bytes);
    // Goes on at this byte, whatever was read before. Error(io) when the file cannot do that.
    void seek(int64_t position);
    int64_t position() const { return read_ - static_cast<int64_t>(left().size()); }  // bytes taken

private:
    size_t read_on(char* to, size_t bytes);

    std::string path_;
    Descriptor file_;
    std::vector<char> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    int64_t read_ = 0;  // bytes from the beginning to where the system reads next
};

}  // namespace trireme
