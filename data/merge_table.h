#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "data/bytes_hash.h"

namespace trireme {

// Two adjacent tokens that may become one. A lower rank goes first, then the place further left.
struct BpeMerge {
    int32_t left = 0;
    int32_t right = 0;
    int32_t merged = 0;
    int32_t rank = 0;
};

// Merges by pair of tokens. A merge is known by its place in the order of ranks. A pair and its
// merge are one word of eight bytes, so that the tables of usual vocabularies stay near.
class MergeTable {
public:
    static constexpr int kIdBits = 21;
    static constexpr int kOrderBits = 64 - 2 * kIdBits;
    // Behind every merge: the pair has none.
    static constexpr int32_t kNone = (int32_t{1} << kOrderBits) - 1;

    // Has room for this many merges. Checked, as an invariant: less than kNone.
    explicit MergeTable(size_t most);
    // Takes the merges in the order of their ranks; each one's order is its place here.
    explicit MergeTable(std::span<const BpeMerge> in_order);

    // Checked, as invariants: ids below 2^21 - 1, an order from 0 to kNone - 1, all pairs differ,
    // and there is room.
    void add(int32_t left, int32_t right, int32_t order, int32_t merged);

    int32_t find(int32_t left, int32_t right) const {
        const uint64_t key = key_of(left, right);
        for (size_t at = home_of(key);; at = (at + 1) & (slots_.size() - 1)) {
            const uint64_t slot = slots_[at];
            if (slot >> kOrderBits == key || slot == kEmpty) {
                return static_cast<int32_t>(slot & static_cast<uint64_t>(kNone));
            }
        }
    }

    // Begins to bring what find() needs from memory.
    void prefetch(int32_t left, int32_t right) const {
        __builtin_prefetch(&slots_[home_of(key_of(left, right))]);
    }

    // What the merge at this place in the order makes.
    int32_t merged(int32_t order) const { return merged_[static_cast<size_t>(order)]; }

private:
    static constexpr uint64_t kEmpty = UINT64_MAX;

    static uint64_t key_of(int32_t left, int32_t right) {
        return static_cast<uint64_t>(left) << kIdBits | static_cast<uint64_t>(right);
    }
    size_t home_of(uint64_t key) const { return word_hash(key, key_) & (slots_.size() - 1); }

    HashKey key_ = HashKey::random();
    std::vector<uint64_t> slots_;  // open addressing, a power of two, at most half of them taken
    size_t n_merges_ = 0;
    std::vector<int32_t> merged_;  // by order
};

}  // namespace trireme
