#include "data/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "core/error.h"
#include "data/bytes_hash.h"

namespace trireme {
namespace {

// Up to here a scan over all pairs for each merge is quicker than a heap.
constexpr size_t kFewBytes = 256;

size_t table_size(size_t n) {
    return std::bit_ceil(std::max<size_t>(16, 2 * n));
}

uint64_t pair_key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const std::vector<std::string>& tokens, std::span<const BpeMerge> merges,
         bool whole_pieces)
    : whole_pieces_(whole_pieces), pairs_(table_size(merges.size())) {
    size_t n_tokens = 0;
    size_t n_bytes = 0;
    for (const std::string& token : tokens) {
        n_tokens += token.empty() ? 0 : 1;
        n_bytes += token.size();
    }
    TRIREME_CHECK(n_bytes < UINT32_MAX, "less than 4 GiB of tokens");
    table_.resize(table_size(n_tokens));
    bytes_.reserve(n_bytes);
    starts_.reserve(tokens.size() + 1);
    for (size_t id = 0; id < tokens.size(); ++id) {
        starts_.push_back(static_cast<uint32_t>(bytes_.size()));
        bytes_ += tokens[id];
    }
    starts_.push_back(static_cast<uint32_t>(bytes_.size()));
    for (size_t id = 0; id < tokens.size(); ++id) {
        if (!tokens[id].empty()) add_token(tokens[id], static_cast<int32_t>(id));
    }
    for (int byte = 0; byte < 256; ++byte) {
        const char c = static_cast<char>(byte);
        byte_ids_[static_cast<size_t>(byte)] = find({&c, 1});
        TRIREME_CHECK(byte_ids_[static_cast<size_t>(byte)] >= 0, "a token for every byte");
    }
    for (const BpeMerge& merge : merges) add_merge(merge);
    byte_pairs_.reserve(size_t{256} * 256);
    for (const int32_t left : byte_ids_) {
        for (const int32_t right : byte_ids_) byte_pairs_.push_back(merge_of(left, right));
    }
}

void Bpe::add_token(const std::string& token, int32_t id) {
    TRIREME_CHECK(find(token) < 0, "tokens that differ");
    const uint64_t hash = bytes_hash(token.data(), token.size());
    size_t at = hash & (table_.size() - 1);
    while (table_[at].id >= 0) at = (at + 1) & (table_.size() - 1);
    table_[at] = {static_cast<uint32_t>(hash >> 32), id};
}

int32_t Bpe::find(std::string_view token) const {
    const uint64_t hash = bytes_hash(token.data(), token.size());
    const auto tag = static_cast<uint32_t>(hash >> 32);
    for (size_t at = hash & (table_.size() - 1);; at = (at + 1) & (table_.size() - 1)) {
        const TokenSlot slot = table_[at];
        if (slot.id < 0) return -1;
        if (slot.hash != tag) continue;
        const uint32_t start = starts_[static_cast<size_t>(slot.id)];
        const uint32_t end = starts_[static_cast<size_t>(slot.id) + 1];
        if (token == std::string_view(bytes_).substr(start, end - start)) return slot.id;
    }
}

void Bpe::add_merge(const BpeMerge& merge) {
    TRIREME_CHECK(merge.rank >= 0, "ranks of zero or more");
    const uint64_t key = pair_key(merge.left, merge.right);
    size_t at = mix_hash(key) & (pairs_.size() - 1);
    while (pairs_[at].pair != UINT64_MAX) {
        TRIREME_CHECK(pairs_[at].pair != key, "one merge for a pair");
        at = (at + 1) & (pairs_.size() - 1);
    }
    pairs_[at] = {key, {merge.rank, merge.merged}};
}

Bpe::Merged Bpe::merge_of(int32_t left, int32_t right) const {
    const uint64_t key = pair_key(left, right);
    for (size_t at = mix_hash(key) & (pairs_.size() - 1);; at = (at + 1) & (pairs_.size() - 1)) {
        if (pairs_[at].pair == key) return pairs_[at].merged;
        if (pairs_[at].pair == UINT64_MAX) return kNone;
    }
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
    if (piece.size() == 1) {
        ids.push_back(byte_ids_[static_cast<unsigned char>(piece[0])]);
        return;
    }
    if (whole_pieces_) {
        const int32_t id = find(piece);
        if (id >= 0) {
            ids.push_back(id);
            return;
        }
    }
    if (piece.size() <= kFewBytes) {
        merge_few(piece, ids);
    } else {
        merge_many(piece, ids);
    }
}

// A part stays at the place of its first byte. Each place has the rank of what the part there and
// the one behind it become, and below it the place, so that one minimum finds both.
void Bpe::merge_few(std::string_view piece, std::vector<int32_t>& ids) const {
    constexpr int64_t kNever = INT64_MAX;
    constexpr size_t kLanes = 8;
    constexpr int kPlaceBits = 16;
    const size_t n = piece.size();
    const size_t n_padded = (n + kLanes - 1) / kLanes * kLanes;
    std::array<int64_t, kFewBytes> keys;
    std::array<int32_t, kFewBytes> parts, merged;
    std::array<uint16_t, kFewBytes> before, behind;
    const auto set = [&](size_t at, Merged to) {
        merged[at] = to.id;
        keys[at] = to.id < 0
                       ? kNever
                       : static_cast<int64_t>(to.rank) << kPlaceBits | static_cast<int64_t>(at);
    };
    for (size_t i = 0; i < n; ++i) {
        parts[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
        before[i] = static_cast<uint16_t>(i - 1);
        behind[i] = static_cast<uint16_t>(i + 1);
    }
    for (size_t i = 0; i + 1 < n; ++i) set(i, merge_of_bytes(piece[i], piece[i + 1]));
    for (size_t i = n - 1; i < n_padded; ++i) keys[i] = kNever;
    for (;;) {
        int64_t best = kNever;
        for (size_t i = 0; i < n_padded; ++i) best = std::min(best, keys[i]);
        if (best == kNever) break;
        const size_t at = static_cast<size_t>(best) & ((size_t{1} << kPlaceBits) - 1);
        const size_t gone = behind[at];
        const size_t next = behind[gone];
        parts[at] = merged[at];
        behind[at] = static_cast<uint16_t>(next);
        keys[gone] = kNever;
        if (next < n) {
            before[next] = static_cast<uint16_t>(at);
            set(at, merge_of(parts[at], parts[next]));
        } else {
            keys[at] = kNever;
        }
        if (at > 0) set(before[at], merge_of(parts[before[at]], parts[at]));
    }
    for (size_t i = 0; i < n; i = behind[i]) ids.push_back(parts[i]);
}

// The parts are a linked list, and a heap holds the merges to try: their ranks, and below them the
// places. An entry counts when the pair at its place has its rank; one that a merge beside it has
// overtaken does not, and is passed over. Little is kept for each byte, because a piece may be a
// whole document.
void Bpe::merge_many(std::string_view piece, std::vector<int32_t>& ids) const {
    struct Part {
        int32_t id;  // -1: has become a part of the one before
        uint32_t before, behind;
    };
    constexpr uint32_t kEnd = UINT32_MAX;
    TRIREME_CHECK(piece.size() < kEnd, "a piece of less than 4 GiB");
    const auto n = static_cast<uint32_t>(piece.size());
    std::vector<Part> parts(n);
    for (uint32_t i = 0; i < n; ++i) {
        parts[i] = {byte_ids_[static_cast<unsigned char>(piece[i])], i == 0 ? kEnd : i - 1,
                    i + 1 == n ? kEnd : i + 1};
    }
    const auto merge_at = [&](uint32_t at) {
        if (parts[at].id < 0 || parts[at].behind == kEnd) return kNone;
        return merge_of(parts[at].id, parts[parts[at].behind].id);
    };
    const auto key_of = [](Merged merged, uint32_t at) {
        return static_cast<uint64_t>(merged.rank) << 32 | at;
    };
    std::vector<uint64_t> heap;
    heap.reserve(n);
    for (uint32_t i = 0; i + 1 < n; ++i) {
        const Merged merged = merge_of_bytes(piece[i], piece[i + 1]);
        if (merged.id >= 0) heap.push_back(key_of(merged, i));
    }
    std::make_heap(heap.begin(), heap.end(), std::greater<>());
    const auto push = [&](uint32_t at) {
        if (at == kEnd) return;
        const Merged merged = merge_at(at);
        if (merged.id < 0) return;
        heap.push_back(key_of(merged, at));
        std::push_heap(heap.begin(), heap.end(), std::greater<>());
    };
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), std::greater<>());
        const uint64_t best = heap.back();
        heap.pop_back();
        const auto at = static_cast<uint32_t>(best);
        const Merged merged = merge_at(at);
        if (merged.id < 0 || key_of(merged, at) != best) continue;
        Part& left = parts[at];
        Part& right = parts[left.behind];
        left.id = merged.id;
        left.behind = right.behind;
        right.id = -1;
        if (left.behind != kEnd) parts[left.behind].before = at;
        push(at);
        push(left.before);
    }
    for (uint32_t i = 0; i != kEnd; i = parts[i].behind) ids.push_back(parts[i].id);
}

}  // namespace trireme
