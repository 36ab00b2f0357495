#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/device.h"
#include "parallel/checkpoint_save.h"

namespace trireme {

// One rank's pieces of a checkpoint at one moment, in host memory that is kept for the next time,
// each with the checksum of the copy. Not thread-safe.
class CheckpointSnapshot {
public:
    // Takes the memory for so many bytes, really: later nothing can fail for lack of it. Throws
    // std::bad_alloc.
    void reserve(uint64_t bytes);

    // Copies the pieces' data, which lies in the device's memory and is what the compute stream has
    // made when it comes to this point. Blocks until they are copied.
    void take(Device& device, std::span<const CheckpointPiece> pieces);

    // With data in this object's memory. Valid until the next take().
    std::span<const CheckpointPiece> pieces() const { return pieces_; }

    static uint64_t bytes_of(std::span<const CheckpointPiece> pieces);

private:
    std::unique_ptr<char[]> memory_;
    uint64_t capacity_ = 0;
    std::vector<CheckpointPiece> pieces_;
};

}  // namespace trireme
