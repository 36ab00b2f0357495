#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/locked_file.h"

namespace trireme {

// Error(output_busy) when there is a file of that name and it cannot be removed.
void remove_former(const std::string& path);

// Writes PATH under the name PATH.partial and gives it its name only when it is whole and on the
// disk. Destroyed before publish(), it removes what it wrote. The partial file is locked: a
// second writer of the same path gets Error(output_busy); what a killed one left is reused, or
// with `resume_at` goes on from that byte.
class OutputFile {
public:
    // Creates missing folders. Error(output_busy) when the file cannot be created, Error(io) when
    // that is for a full or failing disk or too many open files. One that goes on keeps what was
    // left until keep(false).
    // Error(bad_data) when what was left is shorter than `resume_at` bytes.
    explicit OutputFile(const std::string& path, int64_t resume_at = 0);
    ~OutputFile();
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;

    const std::string& path() const { return path_; }
    const std::string& partial_path() const { return partial_path_; }

    // Whether the destructor leaves what was written.
    void keep(bool keeps = true) { keeps_ = keeps; }

    // Buffered. Error(io) when the disk refuses.
    void write(const void* from, size_t bytes);

    // Writes what is buffered and waits until it is on the disk. Error(io).
    void sync();

    // sync(), then renames over PATH. The folder's entry is made durable too.
    void publish();

private:
    void flush();

    std::string path_;
    std::string partial_path_;
    std::optional<LockedFile> file_;  // until it has its name
    bool keeps_ = false;
    std::vector<char> buffer_;
};

}  // namespace trireme
