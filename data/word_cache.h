#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "data/bytes_hash.h"

namespace trireme {

// Remembers the ids of short pieces, each in one cache line at the place that its hash says; a
// newer piece pushes an older one out. For one thread.
class WordCache {
public:
    static constexpr size_t kMaxBytes = 34;
    static constexpr size_t kMaxIds = 7;

    WordCache() : slots_(kSlots) {}

    // The place of a piece of at most kMaxBytes bytes.
    struct alignas(64) Slot {
        uint8_t n_bytes = 0;
        uint8_t n_ids = 0;
        std::array<char, kMaxBytes> bytes{};
        std::array<int32_t, kMaxIds> ids{};

        bool holds(std::string_view piece) const {
            return n_bytes == piece.size() &&
                   std::memcmp(bytes.data(), piece.data(), piece.size()) == 0;
        }
        // Does nothing when there are too many ids.
        void store(std::string_view piece, std::span<const int32_t> of) {
            if (of.size() > kMaxIds) return;
            n_bytes = static_cast<uint8_t>(piece.size());
            n_ids = static_cast<uint8_t>(of.size());
            std::memcpy(bytes.data(), piece.data(), piece.size());
            std::memcpy(ids.data(), of.data(), of.size() * sizeof(int32_t));
        }
    };
    Slot& slot_of(std::string_view piece) {
        return slots_[bytes_hash(piece.data(), piece.size()) & (kSlots - 1)];
    }

private:
    static constexpr size_t kSlots = size_t{1} << 17;

    std::vector<Slot> slots_;
};
static_assert(sizeof(WordCache::Slot) == 64);

}  // namespace trireme
