#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/parameter.h"

namespace trireme {

// Where the parameters of a chunk lie in its flat buffers (values, gradients, optimizer state), cut
// into buckets that are reduced over the data axis and sharded over its ranks. All sizes in
// elements; gaps between parameters and at the ends of buckets belong to nothing and stay zero.
//
// Two kinds of it. Filled: buckets of a given size, all sharded. By unit: what is used together is
// a bucket, and one more at the beginning holds the keep_whole parameters, which no rank shards.
struct FlatLayout {
    struct Range {
        int64_t begin = 0;
        int64_t size = 0;
        bool operator==(const Range&) const = default;
    };
    struct Bucket {
        int64_t begin = 0;  // multiples of 16, the size of 16 * shards unless it is whole
        int64_t size = 0;
        std::vector<int> parameters;  // ascending; consecutive unless it is whole
        bool is_whole = false;        // the same on every rank, never sharded
        bool is_outsize = false;      // has a parameter that is (see ParameterSpec)
    };

    std::vector<int64_t> offsets;  // of each parameter in the flat buffer
    std::vector<Bucket> buckets;   // as backward finishes them: from the end of the buffer down
    int64_t elements = 0;
    int64_t whole_elements = 0;  // the first so many are those of a whole bucket
    int shards = 1;

    // A shard's part of a bucket, in the flat buffer: contiguous, size / shards elements.
    Range shard_of(const Bucket& bucket, int shard) const;
    int bucket_of(int parameter) const;

    // The same part in a buffer that holds only one shard: the parts of all buckets back to back,
    // in the flat buffer's order.
    int64_t shard_elements() const { return whole_elements + (elements - whole_elements) / shards; }
    Range compact_range(const Bucket& bucket) const;
};

// `parameters` in forward order. A parameter starts at a multiple of 16 elements, except that one
// with adjoins_previous starts right behind its predecessor. A bucket takes parameters from the
// end until it holds at least bucket_elements; it splits neither a parameter nor a group of
// adjoining ones, and a parameter with own_bucket is alone in its own.
FlatLayout plan_flat_layout(std::span<const ParameterSpec> parameters, int shards,
                            int64_t bucket_elements);

// A bucket for each run of parameters between two keep_whole ones (a norm begins a branch, so that
// is its matrices and biases), with those of own_bucket apart.
FlatLayout plan_flat_layout_by_unit(std::span<const ParameterSpec> parameters, int shards);

// Where a parameter and a shard meet.
struct FlatSegment {
    int parameter = 0;
    FlatLayout::Range local;    // in the parameter's own storage (box, then padding rows)
    FlatLayout::Range flat;     // in the flat buffer
    FlatLayout::Range compact;  // in the buffer of that shard only; for kWholeLayout as flat
};

inline constexpr int kWholeLayout = -1;

// Calls visit(const FlatSegment&) for every non-empty part of a parameter's storage in `shard`, or
// for every whole parameter when shard is kWholeLayout. Bucket by bucket, ascending within one.
template <typename Visit>
void for_each_segment(const FlatLayout& layout, std::span<const ParameterSpec> parameters,
                      int shard, const Visit& visit) {
    for (const FlatLayout::Bucket& bucket : layout.buckets) {
        const bool whole = shard == kWholeLayout;
        const FlatLayout::Range part =
            whole ? FlatLayout::Range{bucket.begin, bucket.size} : layout.shard_of(bucket, shard);
        const int64_t compact_begin = whole ? bucket.begin : layout.compact_range(bucket).begin;
        for (const int i : bucket.parameters) {
            const int64_t offset = layout.offsets[static_cast<size_t>(i)];
            const int64_t end = offset + parameters[static_cast<size_t>(i)].stored_elements();
            const int64_t begin = std::max(part.begin, offset);
            const int64_t size = std::min(part.begin + part.size, end) - begin;
            if (size <= 0) continue;
            visit(FlatSegment{i,
                              {begin - offset, size},
                              {begin, size},
                              {compact_begin + begin - part.begin, size}});
        }
    }
}

}  // namespace trireme
