#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file_io.h"
#include "parallel/checkpoint_manifest.h"

namespace trireme {

// A sound checkpoint that does not fit what is asked of it: another model, other data. An older
// one would not fit either, so nobody falls back because of it.
class CheckpointMismatch : public Error {
public:
    explicit CheckpointMismatch(const std::string& message) : Error(ExitCode::bad_data, message) {}
};

// Whether an error that came of reading says that the checkpoint is damaged, so that one before it
// may do: bad_data or io, but no mismatch.
bool is_damage(const Error& error);

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
