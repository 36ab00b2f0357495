#pragma once

#include <cstdint>
#include <string>

#include "core/file_io.h"

namespace trireme {

// A file of a dataset, opened for reading at any offset, from any thread. Reading is by pread and
// not by a mapping, so that a file that shrinks meanwhile is an Error and not a SIGBUS.
class InputFile {
public:
    // Error(bad_data) when the file is missing or is no regular file, Error(io) when it cannot be
    // opened otherwise.
    explicit InputFile(const std::string& path);

    const std::string& path() const { return file_.path(); }
    int64_t size() const { return size_; }  // bytes, when it was opened

    // Reads exactly `bytes` bytes. Error(bad_data) if the file ends before, Error(io) if the
    // system fails.
    void read(int64_t offset, void* to, int64_t bytes) const;

private:
    File file_;
    int64_t size_;
};

}  // namespace trireme
