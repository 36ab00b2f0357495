#include "data/bpe.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/error.h"
#include "data/merge_queue.h"

namespace trireme {
namespace {

// Pieces that are merged in turns.
constexpr size_t kTogether = 16;

size_t table_size(size_t n) {
    return std::bit_ceil(std::max<size_t>(16, 2 * n));
}

}  // namespace

Bpe::Bpe(const std::vector<std::string>& tokens, std::span<const BpeMerge> merges,
         bool whole_pieces)
    : whole_pieces_(whole_pieces), merges_(0) {
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
        bytes_begin_.ids[static_cast<size_t>(byte)] = find({&c, 1});
        TRIREME_CHECK(bytes_begin_.ids[static_cast<size_t>(byte)] >= 0, "a token for every byte");
    }
    std::vector<BpeMerge> in_order(merges.begin(), merges.end());
    std::stable_sort(in_order.begin(), in_order.end(),
                     [](const BpeMerge& a, const BpeMerge& b) { return a.rank < b.rank; });
    merges_ = MergeTable(in_order);
    fill_byte_pairs();
    keep_needed_merges(std::move(in_order));
}

// A file may list several pairs that make the same token, but no piece can use more than one of
// them: parts that stand side by side were never merged across their outer ends, so between these
// everything went as it goes when the token's bytes are a piece of their own. The pair that piece
// ends with is the only one. A small table is quicker.
void Bpe::keep_needed_merges(std::vector<BpeMerge> in_order) {
    std::vector<bool> is_made(starts_.size());
    std::vector<int32_t> made;
    for (const BpeMerge& merge : in_order) {
        const auto at = static_cast<size_t>(merge.merged);
        if (!is_made[at]) made.push_back(merge.merged);
        is_made[at] = true;
    }
    if (made.size() == in_order.size()) return;
    std::vector<int32_t> orders, ids;
    for (const int32_t id : made) {
        ids.clear();
        const int32_t last = merge(bytes_of(id), ids);
        if (ids.size() == 1) orders.push_back(last);
    }
    std::sort(orders.begin(), orders.end());
    std::vector<BpeMerge> needed;
    needed.reserve(orders.size());
    for (const int32_t order : orders) needed.push_back(in_order[static_cast<size_t>(order)]);
    merges_ = MergeTable(needed);
    fill_byte_pairs();
}

void Bpe::fill_byte_pairs() {
    bytes_begin_.pairs.clear();
    bytes_begin_.pairs.reserve(size_t{256} * 256);
    for (const int32_t left : bytes_begin_.ids) {
        for (const int32_t right : bytes_begin_.ids)
            bytes_begin_.pairs.push_back(merges_.find(left, right));
    }
}

void Bpe::add_token(const std::string& token, int32_t id) {
    TRIREME_CHECK(find(token) < 0, "tokens that differ");
    const uint64_t hash = hash_of(token);
    size_t at = hash & (table_.size() - 1);
    while (table_[at].id >= 0) at = (at + 1) & (table_.size() - 1);
    table_[at] = {static_cast<uint32_t>(hash >> 32), id};
}

int32_t Bpe::find(std::string_view token) const {
    return find(token, hash_of(token));
}

int32_t Bpe::find(std::string_view token, uint64_t hash) const {
    const auto tag = static_cast<uint32_t>(hash >> 32);
    for (size_t at = hash & (table_.size() - 1);; at = (at + 1) & (table_.size() - 1)) {
        const TokenSlot slot = table_[at];
        if (slot.id < 0) return -1;
        if (slot.hash != tag) continue;
        if (token == bytes_of(slot.id)) return slot.id;
    }
}

std::string_view Bpe::bytes_of(int32_t id) const {
    const uint32_t start = starts_[static_cast<size_t>(id)];
    const uint32_t end = starts_[static_cast<size_t>(id) + 1];
    return std::string_view(bytes_).substr(start, end - start);
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
    if (piece.size() == 1) {
        ids.push_back(bytes_begin_.ids[static_cast<unsigned char>(piece[0])]);
        return;
    }
    if (whole_pieces_) {
        const int32_t id = find(piece);
        if (id >= 0) {
            ids.push_back(id);
            return;
        }
    }
    merge(piece, ids);
}

void Bpe::encode(std::span<const std::string_view> pieces, std::vector<int32_t>& ids,
                 std::span<size_t> ends) const {
    while (!pieces.empty()) {
        const size_t n = std::min(kTogether, pieces.size());
        encode_together(pieces.first(n), ids, ends.first(n));
        pieces = pieces.subspan(n);
        ends = ends.subspan(n);
    }
}

void Bpe::encode_together(std::span<const std::string_view> pieces, std::vector<int32_t>& ids,
                          std::span<size_t> ends) const {
    std::array<uint64_t, kTogether> hashes{};
    std::array<int32_t, kTogether> whole;
    std::array<PieceMerge, kTogether> merging;
    std::array<size_t, kTogether> active;
    size_t n_active = 0;
    if (whole_pieces_) {
        for (size_t i = 0; i < pieces.size(); ++i) {
            hashes[i] = hash_of(pieces[i]);
            __builtin_prefetch(&table_[hashes[i] & (table_.size() - 1)]);
        }
    }
    for (size_t i = 0; i < pieces.size(); ++i) {
        whole[i] = whole_pieces_ ? find(pieces[i], hashes[i]) : -1;
        if (whole[i] >= 0 || pieces[i].size() > PieceMerge::kMaxBytes) continue;
        merging[i].begin(pieces[i], bytes_begin_);
        active[n_active++] = i;
    }
    while (n_active > 0) {
        size_t n_left = 0;
        for (size_t i = 0; i < n_active; ++i) {
            if (merging[active[i]].step(merges_)) active[n_left++] = active[i];
        }
        n_active = n_left;
    }
    for (size_t i = 0; i < pieces.size(); ++i) {
        if (whole[i] >= 0) {
            ids.push_back(whole[i]);
        } else if (pieces[i].size() <= PieceMerge::kMaxBytes) {
            merging[i].append_to(ids);
        } else {
            merge_many(pieces[i], ids);
        }
        ends[i] = ids.size();
    }
}

int32_t Bpe::merge(std::string_view piece, std::vector<int32_t>& ids) const {
    if (piece.size() > PieceMerge::kMaxBytes) return merge_many(piece, ids);
    PieceMerge merging;
    merging.begin(piece, bytes_begin_);
    while (merging.step(merges_)) continue;
    merging.append_to(ids);
    return merging.last();
}

// The parts are a linked list, and a queue holds the merges to try. One that is not the part's any
// more was overtaken by a merge beside it and is passed over. Little is kept for each byte, because
// a piece may be a whole document.
int32_t Bpe::merge_many(std::string_view piece, std::vector<int32_t>& ids) const {
    constexpr int kPlaceBits = 64 - MergeTable::kOrderBits;
    constexpr uint64_t kPlaces = (uint64_t{1} << kPlaceBits) - 1;
    constexpr uint32_t kEnd = UINT32_MAX;
    struct Part {
        int32_t id;
        int32_t order;  // of its merge with the part behind it
        uint32_t before, behind;
    };
    TRIREME_CHECK(piece.size() < kEnd, "a piece of less than 4 GiB");
    const auto n = static_cast<uint32_t>(piece.size());
    std::vector<Part> parts(n);
    for (uint32_t i = 0; i < n; ++i) {
        parts[i] = {bytes_begin_.ids[static_cast<unsigned char>(piece[i])], MergeTable::kNone,
                    i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1};
    }
    MergeQueue queue(kPlaceBits);
    const auto add = [&](uint32_t at) {
        Part& part = parts[at];
        part.order =
            part.behind == kEnd ? MergeTable::kNone : merges_.find(part.id, parts[part.behind].id);
        if (part.order != MergeTable::kNone) {
            queue.push(static_cast<uint64_t>(part.order) << kPlaceBits | at);
        }
    };
    for (uint32_t i = 0; i < n; ++i) add(i);
    int32_t last = MergeTable::kNone;
    for (uint64_t best = queue.pop(); best != UINT64_MAX; best = queue.pop()) {
        const auto at = static_cast<uint32_t>(best & kPlaces);
        const auto order = static_cast<int32_t>(best >> kPlaceBits);
        Part& left = parts[at];
        if (left.order != order) continue;
        last = order;
        Part& right = parts[left.behind];
        left.id = merges_.merged(order);
        left.behind = right.behind;
        right.order = MergeTable::kNone;
        if (left.behind != kEnd) parts[left.behind].before = at;
        add(at);
        if (left.before != kEnd) add(left.before);
    }
    for (uint32_t i = 0; i != kEnd; i = parts[i].behind) ids.push_back(parts[i].id);
    return last;
}

}  // namespace trireme
