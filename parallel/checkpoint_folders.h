#pragma once

#include <cstdint>
#include <string>

namespace trireme {

// Names in a checkpoints folder: step-00000100 is a checkpoint, step-00000100.tmp-ID (with core's
// kTemporaryMark) one being written or left by an interrupted save, .trash-NAME one being deleted.
inline constexpr const char* kTrashPrefix = ".trash-";
// Names the newest one, for people; never trusted.
inline constexpr const char* kLatestName = "LATEST";

std::string step_folder_name(int64_t step);

// Tells other processes that this one is still working in a folder. The system forgets it when the
// process ends, however that happens. Where the file system knows no locks, nothing is told.
class FolderClaim {
public:
    explicit FolderClaim(const std::string& folder);
    ~FolderClaim();
    FolderClaim(const FolderClaim&) = delete;
    FolderClaim& operator=(const FolderClaim&) = delete;

    // Whether somebody claims it.
    static bool exists(const std::string& folder);

private:
    int descriptor_ = -1;
};

}  // namespace trireme
