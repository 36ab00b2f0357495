#include "data/piece_merge.h"

#include <algorithm>

namespace trireme {

void PieceMerge::begin(std::string_view piece, const Bytes& bytes) {
    constexpr size_t kLanes = 16;  // of a vector register
    n_ = piece.size();
    n_padded_ = (n_ + kLanes - 1) / kLanes * kLanes;
    changed_ = n_;
    last_ = MergeTable::kNone;
    const auto byte_at = [piece](size_t i) {
        return static_cast<size_t>(static_cast<unsigned char>(piece[i]));
    };
    for (size_t i = 0; i < n_; ++i) {
        parts_[i] = bytes.ids[byte_at(i)];
        before_[i] = static_cast<uint16_t>(i - 1);
        behind_[i] = static_cast<uint16_t>(i + 1);
    }
    for (size_t i = 0; i + 1 < n_; ++i) set(i, bytes.pairs[byte_at(i) << 8 | byte_at(i + 1)]);
    for (size_t i = n_ - 1; i < n_padded_; ++i) keys_[i] = kNever;
}

bool PieceMerge::step(const MergeTable& merges) {
    if (changed_ < n_) {
        const size_t at = changed_;
        const size_t next = behind_[at];
        if (next < n_) {
            set(at, merges.find(parts_[at], parts_[next]));
        } else {
            keys_[at] = kNever;
        }
        if (at > 0) set(before_[at], merges.find(parts_[before_[at]], parts_[at]));
    }
    int32_t best = kNever;
    for (size_t i = 0; i < n_padded_; ++i) best = std::min(best, keys_[i]);
    if (best >= kNever) return false;
    const size_t at = static_cast<size_t>(best) & (kMaxBytes - 1);
    const size_t gone = behind_[at];
    const size_t next = behind_[gone];
    last_ = best >> kPlaceBits;
    parts_[at] = merges.merged(last_);
    behind_[at] = static_cast<uint16_t>(next);
    keys_[gone] = kNever;
    if (next < n_) {
        before_[next] = static_cast<uint16_t>(at);
        merges.prefetch(parts_[at], parts_[next]);
    }
    if (at > 0) merges.prefetch(parts_[before_[at]], parts_[at]);
    changed_ = at;
    return true;
}

}  // namespace trireme
