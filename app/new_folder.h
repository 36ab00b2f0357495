#pragma once

#include <string>

#include "parallel/control_group.h"

namespace trireme {

// A folder that is written beside its place and appears there whole, or never. Rank 0 makes it and
// calls publish or give_up; all ranks write.
class NewFolder {
public:
    // Collective. Throws Error (output_busy) when something is at `path` already, but for an empty
    // folder, or when the folder cannot be made.
    NewFolder(ControlGroup& control, const std::string& path);
    // For one process alone.
    explicit NewFolder(const std::string& path);

    const std::string& path() const { return temporary_; }  // to write into
    void publish();
    void give_up() const;

private:
    void make();

    std::string target_, temporary_;
};

}  // namespace trireme
