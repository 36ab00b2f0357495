#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace trireme {

// Names in a checkpoints folder: step-00000100 is a checkpoint, step-00000100.tmp-ID (with core's
// kTemporaryMark) one being written or left by an interrupted save, .trash-NAME one being deleted.
inline constexpr const char* kTrashPrefix = ".trash-";
// Names the newest one, for people; never trusted.
inline constexpr const char* kLatestName = "LATEST";

std::string step_folder_name(int64_t step);

// Where a run's checkpoints are.
std::string checkpoints_folder_of(const std::string& run_folder);

// The newest step-* folder in `checkpoints_folder` with a valid manifest and files of the right
// sizes; nothing when there is none. Newer ones that are damaged are added to `skipped`
// (unless null), with the reason. Leftovers of interrupted saves are ignored.
std::optional<std::string> find_newest_checkpoint(const std::string& checkpoints_folder,
                                                  std::vector<std::string>* skipped);

// The step folder that a user's path stands for: a step folder itself, or the newest valid one of
// a run folder or a checkpoints folder. Throws Error (bad_data) saying what was looked for.
std::string resolve_checkpoint(const std::string& path,
                               std::vector<std::string>* skipped = nullptr);

// The step-* folders in a checkpoints folder, newest first, good or not. Throws Error (io) when it
// cannot be listed; a missing one is empty.
std::vector<std::string> list_checkpoints(const std::string& checkpoints_folder);

// Deletes checkpoints but the newest `keep` valid ones (two at least) and, unless `keep_every` is
// 0, those of steps that it divides. Each is renamed before it is deleted, so that no half-deleted
// one bears a step's name. Also what interrupted saves and deletions left, unless a living process
// is at it. One rank calls it. Does not throw: too many checkpoints do no harm.
// `saved`: the step that was saved just now, which stays in any case.
void prune_checkpoints(const std::string& folder, int keep, int64_t keep_every = 0,
                       int64_t saved = -1);

// Gives checkpoints of steps after this one names that nobody takes for a checkpoint's, and returns
// those: a run that begins before them leaves them behind. One rank calls it. Throws Error (io).
std::vector<std::string> set_aside_checkpoints(const std::string& folder, int64_t after);

// Only what interrupted saves and deletions left.
void remove_leftovers(const std::string& folder);

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
