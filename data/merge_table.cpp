#include "data/merge_table.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace trireme {

MergeTable::MergeTable(size_t most)
    : slots_(std::bit_ceil(std::max<size_t>(16, 2 * most)), kEmpty) {
    TRIREME_CHECK(most < static_cast<size_t>(kNone), "less than 2^22 - 1 merges");
}

MergeTable::MergeTable(std::span<const BpeMerge> in_order) : MergeTable(in_order.size()) {
    merged_.reserve(in_order.size());
    for (size_t order = 0; order < in_order.size(); ++order) {
        const BpeMerge& merge = in_order[order];
        add(merge.left, merge.right, static_cast<int32_t>(order), merge.merged);
    }
}

void MergeTable::add(int32_t left, int32_t right, int32_t order, int32_t merged) {
    constexpr int32_t kMaxId = (int32_t{1} << kIdBits) - 2;
    TRIREME_CHECK(std::min(left, right) >= 0 && std::max(left, right) <= kMaxId,
                  "ids of at most 21 bits");
    TRIREME_CHECK(order >= 0 && order < kNone, "an order of at most 22 bits");
    ++n_merges_;
    TRIREME_CHECK(2 * n_merges_ <= slots_.size(), "room for another merge");
    TRIREME_CHECK(find(left, right) == kNone, "one merge for a pair");
    const uint64_t key = key_of(left, right);
    size_t at = home_of(key);
    while (slots_[at] != kEmpty) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = key << kOrderBits | static_cast<uint64_t>(order);
    const auto place = static_cast<size_t>(order);
    if (place >= merged_.size()) merged_.resize(place + 1);
    merged_[place] = merged;
}

}  // namespace trireme
