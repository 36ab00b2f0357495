#include "parallel/flat_layout.h"

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
    const int64_t size = bucket.size / shards;
    return {bucket.begin + shard * size, size};
}

FlatLayout::Range FlatLayout::compact_range(const Bucket& bucket) const {
    return {bucket.begin / shards, bucket.size / shards};
}

int FlatLayout::bucket_of(int parameter) const {
    for (size_t i = 0; i < buckets.size(); ++i) {
        const int begin = buckets[i].first_parameter;
        if (parameter >= begin && parameter < begin + buckets[i].n_parameters) {
            return static_cast<int>(i);
        }
    }
    throw InternalError("no bucket holds parameter " + std::to_string(parameter));
}

FlatLayout plan_flat_layout(std::span<const ParameterSpec> parameters, int shards,
                            int64_t bucket_elements) {
    TRIREME_CHECK(shards >= 1, "at least one shard");
    FlatLayout layout;
    layout.shards = shards;
    layout.offsets.resize(parameters.size());
    const std::vector<Group> groups = group_adjoining(parameters);

    // Buckets are cut from the end, so that the first one is full when backward has just begun and
    // what is left over is small.
    bool open = false;
    for (size_t i = groups.size(); i-- > 0;) {
        const Group& group = groups[i];
        if (!open || group.alone) layout.buckets.emplace_back();
        FlatLayout::Bucket& bucket = layout.buckets.back();
        bucket.first_parameter = group.first;
        bucket.n_parameters += group.count;
        bucket.size += round_up(group.elements, kAlignment);
        open = !group.alone && bucket.size < bucket_elements;
    }

    for (size_t i = layout.buckets.size(); i-- > 0;) {
        FlatLayout::Bucket& bucket = layout.buckets[i];
        bucket.begin = layout.elements;
        bucket.size = round_up(bucket.size, kAlignment * shards);
        layout.elements += bucket.size;
        int64_t at = bucket.begin;
        for (int p = bucket.first_parameter; p < bucket.first_parameter + bucket.n_parameters;
             ++p) {
            const ParameterSpec& spec = parameters[static_cast<size_t>(p)];
            if (!spec.adjoins_previous) at = round_up(at, kAlignment);
            layout.offsets[static_cast<size_t>(p)] = at;
            at += spec.stored_elements();
        }
    }
    return layout;
}

}  // namespace trireme
