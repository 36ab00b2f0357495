#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/merge_table.h"

namespace trireme {

// Byte-pair encoding of one short piece, a merge at a time. Looking up a pair mostly waits for
// memory; so a step ends by asking for what the next one needs, and whoever has several pieces
// takes a step of each in turn.
class PieceMerge {
public:
    static constexpr size_t kMaxBytes = 256;

    // What pieces begin with, by byte: ids[byte], and the merge of each two bytes at
    // pairs[256 * left + right].
    struct Bytes {
        std::array<int32_t, 256> ids;
        std::vector<int32_t> pairs;
    };

    // Of 1 to kMaxBytes bytes.
    void begin(std::string_view piece, const Bytes& bytes);

    // False when there was nothing left to merge.
    bool step(const MergeTable& merges);

    // Appends the ids, once there is nothing left to merge.
    void append_to(std::vector<int32_t>& ids) const {
        for (size_t i = 0; i < n_; i = behind_[i]) ids.push_back(parts_[i]);
    }

    // The merge of the last step that did one; MergeTable::kNone before.
    int32_t last() const { return last_; }

private:
    static constexpr int kPlaceBits = 8;
    static_assert(kMaxBytes == size_t{1} << kPlaceBits);
    static_assert(MergeTable::kOrderBits + kPlaceBits < 32);
    static constexpr int32_t kNever = MergeTable::kNone << kPlaceBits;

    void set(size_t at, int32_t order) {
        keys_[at] = order << kPlaceBits | static_cast<int32_t>(at);
    }

    // A part stays at the place of its first byte. Each place has the merge of the part there with
    // the one behind it, and below it the place, so that one minimum finds both.
    size_t n_, n_padded_;
    size_t changed_;  // where the last merge was; n_: nothing to look up
    int32_t last_;
    std::array<int32_t, kMaxBytes> keys_, parts_;
    std::array<uint16_t, kMaxBytes> before_, behind_;
};

}  // namespace trireme
