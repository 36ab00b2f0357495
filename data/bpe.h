#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/bytes_hash.h"
#include "data/merge_table.h"
#include "data/piece_merge.h"

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

    // Appends the ids of several pieces, one behind the other, and sets ends[i] to where those of
    // pieces[i] end in `ids`. Quicker than one by one, for it waits for memory less.
    void encode(std::span<const std::string_view> pieces, std::vector<int32_t>& ids,
                std::span<size_t> ends) const;

    // The id of a token; -1 when there is none.
    int32_t find(std::string_view token) const;

private:
    void add_token(const std::string& token, int32_t id);
    std::string_view bytes_of(int32_t id) const;
    void keep_needed_merges(std::vector<BpeMerge> in_order);
    void fill_byte_pairs();
    uint64_t hash_of(std::string_view token) const {
        return bytes_hash(token.data(), token.size(), key_);
    }
    int32_t find(std::string_view token, uint64_t hash) const;
    void encode_together(std::span<const std::string_view> pieces, std::vector<int32_t>& ids,
                         std::span<size_t> ends) const;
    // Each appends the ids and gives the merge that it did last; kNone when it did none.
    int32_t merge(std::string_view piece, std::vector<int32_t>& ids) const;
    int32_t merge_many(std::string_view piece, std::vector<int32_t>& ids) const;

    bool whole_pieces_;
    MergeTable merges_;
    PieceMerge::Bytes bytes_begin_;
    struct TokenSlot {
        uint32_t hash = 0;
        int32_t id = -1;
    };
    HashKey key_ = HashKey::random();
    std::vector<TokenSlot> table_;  // open addressing, a power of two
    std::string bytes_;             // of all tokens, one behind the other
    std::vector<uint32_t> starts_;  // of each id in it, and the end
};

}  // namespace trireme
