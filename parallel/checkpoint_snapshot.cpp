#include "parallel/checkpoint_snapshot.h"

#include <algorithm>
#include <cstring>

#include "core/crc32c.h"

namespace trireme {

namespace {

constexpr size_t kChunkBytes = size_t{1} << 18;  // stays in the cache between copy and checksum

uint64_t bytes_of_piece(const CheckpointPiece& piece) {
    return static_cast<uint64_t>(piece.box.elements()) * size_of(piece.dtype);
}

uint32_t copy_with_checksum(char* to, const char* from, size_t bytes) {
    uint32_t crc = 0;
    for (size_t done = 0; done < bytes; done += kChunkBytes) {
        const size_t count = std::min(kChunkBytes, bytes - done);
        std::memcpy(to + done, from + done, count);
        crc = crc32c(to + done, count, crc);
    }
    return crc;
}

}  // namespace

uint64_t CheckpointSnapshot::bytes_of(std::span<const CheckpointPiece> pieces) {
    uint64_t bytes = 0;
    for (const CheckpointPiece& piece : pieces) bytes += bytes_of_piece(piece);
    return bytes;
}

void CheckpointSnapshot::reserve(uint64_t bytes) {
    if (bytes <= capacity_) return;
    memory_.reset();
    capacity_ = 0;
    memory_.reset(new char[bytes]);
    std::memset(memory_.get(), 0, bytes);
    capacity_ = bytes;
}

void CheckpointSnapshot::take(Device& device, std::span<const CheckpointPiece> pieces) {
    reserve(bytes_of(pieces));
    pieces_.assign(pieces.begin(), pieces.end());
    const bool on_host = device.backend() == Backend::cpu;
    if (on_host) device.compute().synchronize();
    char* at = memory_.get();
    for (CheckpointPiece& piece : pieces_) {
        const size_t bytes = bytes_of_piece(piece);
        if (on_host) {
            piece.crc = copy_with_checksum(at, static_cast<const char*>(piece.data), bytes);
        } else {
            device.copy_to_host(at, piece.data, bytes);
        }
        piece.data = at;
        at += bytes;
    }
    if (on_host) return;
    device.compute().synchronize();
    for (CheckpointPiece& piece : pieces_) piece.crc = crc32c(piece.data, bytes_of_piece(piece));
}

}  // namespace trireme
