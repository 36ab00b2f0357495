#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme {

// A file that may be compressed, unpacked from front to back.
class PackedFile {
public:
    virtual ~PackedFile() = default;

    // Up to `bytes` bytes of text, 0 only at the end. Error(bad_data) when the file is damaged or
    // cut off; Error(io) when the system fails.
    virtual size_t read(char* to, size_t bytes) = 0;
    virtual int64_t stored_position() const = 0;  // bytes on disk used so far
};

}  // namespace trireme
