#pragma once

#include <string>

#include "parallel/control_group.h"

namespace trireme {

// A folder that is written beside its place and appears there whole, or never: one that is not
// published is removed with the object. Rank 0 makes it and calls publish or give_up; all ranks
// write.
class NewFolder {
public:
    // Collective. Throws Error (output_busy) when something is at `path` already, but for an empty
    // folder, or when the folder cannot be made.
    NewFolder(ControlGroup& control, const std::string& path);
    // For one process alone.
    explicit NewFolder(const std::string& path);
    ~NewFolder() { give_up(); }
    NewFolder(const NewFolder&) = delete;
    NewFolder& operator=(const NewFolder&) = delete;

    const std::string& path() const { return temporary_; }  // to write into
    void publish();
    // Before other ranks learn of a failure, which may end this one.
    void give_up() noexcept;

private:
    void make();

    std::string target_, temporary_;
    bool is_here_ = false;  // made by this process, and not at its place yet
};

}  // namespace trireme
