#include "parallel/flat_layout.h"

#include <algorithm>

#include "core/error.h"

namespace trireme {

namespace {

// 64 bytes of f32: the width of a cache line and of the widest vector.
constexpr int64_t kAlignment = 16;

int64_t round_up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

// Parameters that must lie back to back.
struct Group {
    int first = 0;
    int count = 0;
    int64_t elements = 0;
    bool alone = false;
};

std::vector<Group> group_adjoining(std::span<const ParameterSpec> parameters) {
    std::vector<Group> groups;
    for (size_t i = 0; i < parameters.size(); ++i) {
        const ParameterSpec& spec = parameters[i];
        TRIREME_CHECK(!spec.adjoins_previous || (i > 0 && !spec.own_bucket && !groups.back().alone),
                      "an adjoining parameter to have a predecessor in the same bucket");
        if (!spec.adjoins_previous) {
            groups.push_back({static_cast<int>(i), 0, 0, spec.own_bucket});
        }
        groups.back().count += 1;
        groups.back().elements += spec.stored_elements();
    }
    return groups;
}

}  // namespace

FlatLayout::Range FlatLayout::shard_of(const Bucket& bucket, int shard) const {
    if (bucket.is_whole) return {bucket.begin, bucket.size};
    const int64_t size = bucket.size / shards;
    return {bucket.begin + shard * size, size};
}

FlatLayout::Range FlatLayout::compact_range(const Bucket& bucket) const {
    if (bucket.is_whole) return {bucket.begin, bucket.size};
    return {whole_elements + (bucket.begin - whole_elements) / shards, bucket.size / shards};
}

int FlatLayout::bucket_of(int parameter) const {
    for (size_t i = 0; i < buckets.size(); ++i) {
        const std::vector<int>& held = buckets[i].parameters;
        if (std::binary_search(held.begin(), held.end(), parameter)) return static_cast<int>(i);
    }
    throw InternalError("no bucket holds parameter " + std::to_string(parameter));
}

namespace {

// The bucket's parameters from `group` on down; buckets are filled from the end.
void put_in_front(FlatLayout::Bucket& bucket, const Group& group) {
    for (int i = group.first + group.count; i-- > group.first;) bucket.parameters.push_back(i);
}

// Gives the buckets, whose parameters are listed from their ends, their places.
void place(FlatLayout& layout, std::span<const ParameterSpec> parameters, int shards) {
    layout.shards = shards;
    layout.offsets.resize(parameters.size());
    for (size_t i = layout.buckets.size(); i-- > 0;) {
        FlatLayout::Bucket& bucket = layout.buckets[i];
        std::reverse(bucket.parameters.begin(), bucket.parameters.end());
        bucket.begin = layout.elements;
        int64_t at = bucket.begin;
        for (const int p : bucket.parameters) {
            const ParameterSpec& spec = parameters[static_cast<size_t>(p)];
            if (!spec.adjoins_previous) at = round_up(at, kAlignment);
            layout.offsets[static_cast<size_t>(p)] = at;
            at += spec.stored_elements();
            bucket.is_outsize = bucket.is_outsize || spec.is_outsize;
        }
        bucket.size =
            round_up(at - bucket.begin, bucket.is_whole ? kAlignment : kAlignment * shards);
        layout.elements += bucket.size;
        if (bucket.is_whole) layout.whole_elements = bucket.size;
    }
}

}  // namespace

FlatLayout plan_flat_layout(std::span<const ParameterSpec> parameters, int shards,
                            int64_t bucket_elements) {
    TRIREME_CHECK(shards >= 1, "at least one shard");
    FlatLayout layout;
    const std::vector<Group> groups = group_adjoining(parameters);

    // Buckets are cut from the end, so that the first one is full when backward has just begun and
    // what is left over is small.
    bool open = false;
    int64_t elements = 0;
    for (size_t i = groups.size(); i-- > 0;) {
        const Group& group = groups[i];
        if (!open || group.alone) {
            layout.buckets.emplace_back();
            elements = 0;
        }
        put_in_front(layout.buckets.back(), group);
        elements += round_up(group.elements, kAlignment);
        open = !group.alone && elements < bucket_elements;
    }
    place(layout, parameters, shards);
    return layout;
}

FlatLayout plan_flat_layout_by_unit(std::span<const ParameterSpec> parameters, int shards) {
    TRIREME_CHECK(shards >= 1, "at least one shard");
    FlatLayout layout;
    FlatLayout::Bucket whole;
    whole.is_whole = true;
    const std::vector<Group> groups = group_adjoining(parameters);
    bool open = false;
    for (size_t i = groups.size(); i-- > 0;) {
        const Group& group = groups[i];
        if (parameters[static_cast<size_t>(group.first)].keep_whole) {
            put_in_front(whole, group);
            open = false;
            continue;
        }
        if (!open || group.alone) layout.buckets.emplace_back();
        put_in_front(layout.buckets.back(), group);
        open = !group.alone;
    }
    if (!whole.parameters.empty()) layout.buckets.push_back(whole);
    place(layout, parameters, shards);
    return layout;
}

}  // namespace trireme
