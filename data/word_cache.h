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
    static constexpr size_t kMaxBytes = 48;

    WordCache() : slots_(kSlots) {}

    // The place of a piece of at most kMaxBytes bytes.
    class alignas(64) Slot {
    public:
        bool holds(std::string_view piece) const {
            return n_bytes_ == piece.size() &&
                   same_bytes(content_.data(), piece.data(), piece.size());
        }
        void append_to(std::vector<int32_t>& ids) const {
            const size_t first = ids.size();
            ids.resize(first + n_ids_);
            const char* from = content_.data() + n_bytes_;
            for (size_t i = 0; i < n_ids_; ++i, from += kIdBytes) {
                uint32_t word;
                std::memcpy(&word, from, sizeof word);
                ids[first + i] = static_cast<int32_t>(word & 0xFFFFFFu);
            }
        }
        // Does nothing when piece and ids, which have at most 24 bits, do not fit.
        void store(std::string_view piece, std::span<const int32_t> ids) {
            if (piece.size() + kIdBytes * ids.size() >= content_.size()) return;
            n_bytes_ = static_cast<uint8_t>(piece.size());
            n_ids_ = static_cast<uint8_t>(ids.size());
            std::memcpy(content_.data(), piece.data(), piece.size());
            char* to = content_.data() + piece.size();
            for (const int32_t id : ids) {  // the last one's fourth byte fits as well
                std::memcpy(to, &id, sizeof id);
                to += kIdBytes;
            }
        }

    private:
        static constexpr size_t kIdBytes = 3;

        uint8_t n_bytes_ = 0;
        uint8_t n_ids_ = 0;
        std::array<char, 62> content_{};  // the piece, its ids, and a byte to read beyond them
    };
    Slot& slot_of(std::string_view piece) {
        return slots_[bytes_hash(piece.data(), piece.size(), key_) & (kSlots - 1)];
    }

private:
    static constexpr size_t kSlots = size_t{1} << 17;

    HashKey key_ = HashKey::random();
    std::vector<Slot> slots_;
};
static_assert(sizeof(WordCache::Slot) == 64);

}  // namespace trireme
