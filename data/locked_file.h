#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/descriptor.h"
#include "core/error.h"

namespace trireme {

// A file held for writing: by this lock writers of the same path keep each other out, until it is
// destroyed or the process ends.
class LockedFile {
public:
    // Error(output_busy) when another holds the file; other reasons as output_error_code().
    static LockedFile create(const std::string& path);
    // Creates nothing: nothing when there is no such file, or a folder has the name.
    static std::optional<LockedFile> find(const std::string& path);

    const std::string& path() const { return path_; }
    int descriptor() const { return file_.number(); }

    // Waits until all is on the disk. Error(io).
    void sync();

    // sync(), then renames over `path` in the same folder, whose entry is made durable too. The
    // lock stays on the file. Error(output_busy) when it cannot get the name.
    void rename_to(const std::string& path);

private:
    LockedFile(std::string path, Descriptor file)
        : path_(std::move(path)), file_(std::move(file)) {}

    std::string path_;
    Descriptor file_;
};

}  // namespace trireme
