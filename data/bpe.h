#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/merge_table.h"

namespace trireme {

// Byte-pair encoding of pieces of bytes: starts from single bytes and merges while it can.
// Constant once made, so safe to use from several threads.
class Bpe {
public:
    // `tokens[id]` are the bytes of each id that pieces can become; empty: none. Checked, as
    // invariants: tokens differ, every byte is one, a pair has one merge. With `whole_pieces` a
    // piece that is a token becomes it without merging.
    Bpe(const std::vector<std::string>& tokens, std::span<const BpeMerge> merges,
        bool whole_pieces);

    // Appends the ids of a piece that is not empty. The time grows as n log n with its bytes.
    void encode(std::string_view piece, std::vector<int32_t>& ids) const;

    // The id of a token; -1 when there is none.
    int32_t find(std::string_view token) const;

private:
    void add_token(const std::string& token, int32_t id);
    std::string_view bytes_of(int32_t id) const;
    void keep_needed_merges(std::vector<BpeMerge> in_order);
    void fill_byte_pairs();
    // Each appends the ids and gives the merge that it did last; kNone when it did none.
    int32_t merge(std::string_view piece, std::vector<int32_t>& ids) const;
    int32_t merge_few(std::string_view piece, std::vector<int32_t>& ids) const;
    int32_t merge_many(std::string_view piece, std::vector<int32_t>& ids) const;

    bool whole_pieces_;
    std::array<int32_t, 256> byte_ids_{};
    MergeTable merges_;
    std::vector<int32_t> byte_pairs_;  // the merge by the two bytes: where every piece begins
    struct TokenSlot {
        uint32_t hash = 0;
        int32_t id = -1;
    };
    std::vector<TokenSlot> table_;  // open addressing, a power of two
    std::string bytes_;             // of all tokens, one behind the other
    std::vector<uint32_t> starts_;  // of each id in it, and the end
};

}  // namespace trireme
