#pragma once

#include <algorithm>
#include <cstdint>

namespace trireme {

// How the heads of rows [heads | kv_heads | kv_heads] x D are shared out among equal parts, as in
// DeepSpeed-Ulysses (Jacobs et al. 2023). A part's row is packed alike: its query heads, its key
// heads, its value heads. Heads are counted along a row, over all three.
struct HeadParts {
    int parts = 1;
    int heads = 0;     // of queries; a multiple of parts
    int kv_heads = 0;  // 0: rows of queries alone; else a multiple of parts, or a divisor of it
    int head_dim = 0;

    constexpr int part_heads() const { return heads / parts; }
    constexpr int part_kv_heads() const {
        return kv_heads == 0 ? 0 : std::max(kv_heads / parts, 1);
    }
    // Neighbouring parts that have the same key and value heads.
    constexpr int kv_sharers() const { return kv_heads == 0 ? 1 : std::max(parts / kv_heads, 1); }
    constexpr int64_t width() const { return (heads + 2 * int64_t{kv_heads}) * head_dim; }
    constexpr int64_t part_width() const {
        return (part_heads() + 2 * int64_t{part_kv_heads()}) * head_dim;
    }
    constexpr int first_head(int part) const { return part * part_heads(); }
    constexpr int first_kv_head(int part) const { return part / kv_sharers() * part_kv_heads(); }

    // Which head of the whole row a head of a part's row is.
    constexpr int head_of_row(int part, int head) const {
        const int kv_head = head - part_heads();
        if (kv_head < 0) return first_head(part) + head;
        const bool is_value = kv_head >= part_kv_heads();
        return heads + first_kv_head(part) + kv_head + (is_value ? kv_heads - part_kv_heads() : 0);
    }

    // Where a head of the whole row is: in this part and the sharers - 1 after it, at one place.
    struct Place {
        int part;
        int head;
        int sharers;
    };
    constexpr Place place_of(int head) const {
        if (head < heads) return {head / part_heads(), head % part_heads(), 1};
        const bool is_value = head - heads >= kv_heads;
        const int kv_head = head - heads - (is_value ? kv_heads : 0);
        const int of_part = kv_head % part_kv_heads() + (is_value ? part_kv_heads() : 0);
        return {kv_head / part_kv_heads() * kv_sharers(), part_heads() + of_part, kv_sharers()};
    }
};

}  // namespace trireme
