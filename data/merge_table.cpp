#include "data/merge_table.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace trireme {

MergeTable::MergeTable(std::span<const BpeMerge> in_order)
    : slots_(std::bit_ceil(std::max<size_t>(16, 2 * in_order.size())), kEmpty) {
    constexpr int32_t kMaxId = (int32_t{1} << kIdBits) - 2;
    TRIREME_CHECK(in_order.size() < static_cast<size_t>(kNone), "less than 2^22 - 1 merges");
    merged_.reserve(in_order.size());
    for (const BpeMerge& merge : in_order) {
        TRIREME_CHECK(
            std::min(merge.left, merge.right) >= 0 && std::max(merge.left, merge.right) <= kMaxId,
            "ids of at most 21 bits");
        TRIREME_CHECK(find(merge.left, merge.right) == kNone, "one merge for a pair");
        const uint64_t key = key_of(merge.left, merge.right);
        size_t at = home_of(key);
        while (slots_[at] != kEmpty) at = (at + 1) & (slots_.size() - 1);
        slots_[at] = key << kOrderBits | merged_.size();
        merged_.push_back(merge.merged);
    }
}

}  // namespace trireme
