#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file_io.h"
#include "parallel/checkpoint_manifest.h"
#include "parallel/control_group.h"

// A checkpoint is a folder step-00000100 of ordinary safetensors files, one a rank, and
// manifest.json, which says which box of which logical tensor lies where. It is written beside its
// final place and renamed when complete, so it is whole or does not exist. Reading intersects
// boxes: any mesh loads what any mesh wrote.

namespace trireme {

// A box of a logical tensor that this rank writes.
struct CheckpointPiece {
    std::string tensor;
    std::array<int64_t, 2> global{1, 0};  // logical shape; a vector is [1, n]
    bool is_vector = false;               // written to files with one dimension
    Box box;                              // at least one element
    DType dtype = DType::f32;
    const void* data = nullptr;        // contents, row-major and contiguous, in host memory
    std::optional<uint32_t> crc = {};  // CRC-32C of the contents, where it is known already
    // Where data is null: copies rows [first, first + count) of the box, so that contents need not
    // be in memory all at once.
    std::function<void(int64_t first, int64_t count, void* to)> read = {};
};

// A sound checkpoint that does not fit what is asked of it: another model, other data. An older
// one would not fit either, so nobody falls back because of it.
class CheckpointMismatch : public Error {
public:
    explicit CheckpointMismatch(const std::string& message) : Error(ExitCode::bad_data, message) {}
};

// Writes folder/step-N, replacing one of that name. Collective and blocking: every rank calls it,
// also one without pieces; all pieces together must tile every tensor exactly (else InternalError).
// The state of rank 0 counts. On any rank's error the temporary folder is deleted, other
// checkpoints stay as they are, and every rank throws the same Error: io, out_of_memory, or
// output_busy when the folder cannot be made. Returns the bytes of this rank's file.
uint64_t save_checkpoint(ControlGroup& group, const std::string& folder,
                         const CheckpointState& state, std::span<const CheckpointPiece> pieces);

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

// Reads a checkpoint that nobody vouches for. Every byte that is returned has been checked against
// its checksum once. Not thread-safe; each rank has its own.
class CheckpointReader {
public:
    // Checks the manifest and the sizes of all files. Throws Error (bad_data).
    explicit CheckpointReader(const std::string& step_folder);
    ~CheckpointReader();
    CheckpointReader(const CheckpointReader&) = delete;
    CheckpointReader& operator=(const CheckpointReader&) = delete;

    const std::string& folder() const { return folder_; }
    const CheckpointState& state() const { return manifest_.state; }
    const Manifest& manifest() const { return manifest_; }
    std::vector<std::string> names() const;  // of the logical tensors, sorted
    bool has(const std::string& tensor) const { return manifest_.tensors.count(tensor) != 0; }

    // Throws CheckpointMismatch when there is no such tensor.
    const ManifestTensor& tensor(const std::string& name) const;
    // Throws CheckpointMismatch telling found and expected when the shape is another.
    void expect_shape(const std::string& tensor, const std::array<int64_t, 2>& global) const;

    // Copies a box of the logical tensor, row-major and contiguous, to host memory. Throws Error
    // (bad_data) naming file and tensor when data is damaged, CheckpointMismatch when the element
    // type differs.
    void read(const std::string& tensor, const Box& box, DType expected, void* to);

    // Reads and checks every byte of every file. What is wrong, a line each; empty when all is
    // well. `progress`, if given, is told the tensor bytes read so far and their total.
    std::vector<std::string> verify(
        const std::function<void(uint64_t done, uint64_t total)>& progress = {});

private:
    struct Shard;

    Shard& shard(int64_t file);
    File& open_file(Shard& shard);
    void read_piece(const ManifestTensor& tensor, const ManifestPiece& piece, const Box& box,
                    void* to);

    std::string folder_;
    Manifest manifest_;
    std::vector<std::unique_ptr<Shard>> shards_;  // a manifest file each; null until needed
    int open_files_ = 0;
};

}  // namespace trireme
