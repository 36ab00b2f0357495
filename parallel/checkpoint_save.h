#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

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

// Writes folder/step-N, replacing one of that name. Collective and blocking: every rank calls it,
// also one without pieces; all pieces together must tile every tensor exactly (else InternalError).
// The state of rank 0 counts. On any rank's error the temporary folder is deleted, other
// checkpoints stay as they are, and every rank throws the same Error: io, out_of_memory, or
// output_busy when the folder cannot be made. Returns the bytes of this rank's file.
uint64_t save_checkpoint(ControlGroup& group, const std::string& folder,
                         const CheckpointState& state, std::span<const CheckpointPiece> pieces);

}  // namespace trireme
