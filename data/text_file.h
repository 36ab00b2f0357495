#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "data/packed_file.h"
#include "data/stored_file.h"

namespace trireme {

// A text file read from front to back; gzip, dictzip and zstd (.gz, .dz, .zst) are unpacked on the
// way. "-" is the standard input, plain or gzip.
class TextFile {
public:
    // Error(bad_data) when the file is missing or a folder.
    explicit TextFile(const std::string& path);

    const std::string& path() const { return path_; }

    // Reads up to `bytes` bytes of text; 0 only at the end. Error(bad_data) when a compressed file
    // is damaged, cut off or not compressed at all, Error(io) when the system fails.
    size_t read(char* to, size_t bytes);

    bool is_plain() const;  // a file whose text is its bytes on disk, whatever its name says

    // Moves on to byte `position` of a plain file's text without reading what lies between; false,
    // and nothing done, where that cannot be.
    bool seek(int64_t position);

    int64_t stored_size() const { return stored_size_; }  // bytes on disk; standard input: 0
    int64_t stored_position() const;                      // bytes of those read so far

private:
    void tell_gzip();

    std::string path_;
    std::optional<StoredFile> plain_;
    std::unique_ptr<PackedFile> packed_;  // instead of plain_
    bool is_told_ = false;                // which of them
    int64_t stored_size_ = 0;
};

bool is_standard_input(const std::string& path);

// The name without the ending of a compression.
std::string uncompressed_name(const std::string& path);

// Bytes of text in the file; reads a compressed file through.
int64_t text_size(const std::string& path);

}  // namespace trireme
