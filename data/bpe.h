#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

// Two adjacent tokens that may become one. A lower rank goes first, then the place further left.
struct BpeMerge {
    int32_t left = 0;
    int32_t right = 0;
    int32_t merged = 0;
    int32_t rank = 0;
};

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
    struct Merged {
        int32_t rank, id;
    };
    static constexpr Merged kNone{INT32_MAX, -1};
    struct PairSlot {
        uint64_t pair = UINT64_MAX;
        Merged merged = kNone;
    };

    Merged merge_of(int32_t left, int32_t right) const;
    Merged merge_of_bytes(char left, char right) const {
        return byte_pairs_[size_t{static_cast<unsigned char>(left)} << 8 |
                           static_cast<unsigned char>(right)];
    }
    void add_token(const std::string& token, int32_t id);
    void add_merge(const BpeMerge& merge);
    void merge_few(std::string_view piece, std::vector<int32_t>& ids) const;
    void merge_many(std::string_view piece, std::vector<int32_t>& ids) const;

    bool whole_pieces_;
    std::array<int32_t, 256> byte_ids_{};
    std::vector<Merged> byte_pairs_;  // by the two bytes: where every piece begins
    std::vector<PairSlot> pairs_;     // open addressing, a power of two
    struct TokenSlot {
        uint32_t hash = 0;
        int32_t id = -1;
    };
    std::vector<TokenSlot> table_;  // open addressing, a power of two
    std::string bytes_;             // of all tokens, one behind the other
    std::vector<uint32_t> starts_;  // of each id in it, and the end
};

}  // namespace trireme
