#include "parallel/parameter_gatherer.h"

#include <algorithm>

#include "core/error.h"

namespace trireme {

ParameterGatherer::ParameterGatherer(Device& device, Communicator& data,
                                     std::vector<ShardedParameters> chunks, int prefetch)
    : device_(device), data_(data), prefetch_(prefetch) {
    TRIREME_CHECK(prefetch >= 0 && !chunks.empty(), "chunks whose buckets are gathered ahead");
    for (const ShardedParameters& chunk : chunks) {
        const FlatLayout& layout = *chunk.layout;
        TRIREME_CHECK(
            layout.shards == data.size() && chunk.shards.elements() == layout.shard_elements(),
            "one shard for each data rank");
        std::vector<Bucket>& buckets = buckets_.emplace_back();
        for (const FlatLayout::Bucket& planned : layout.buckets) {
            const FlatLayout::Range own = layout.compact_range(planned);
            Bucket& bucket = buckets.emplace_back();
            bucket.size = planned.is_whole ? 0 : planned.size;
            bucket.shard = chunk.shards.flat_range(own.begin, own.size);
            bucket.is_outsize = planned.is_outsize;
        }
    }
    const DType type = chunks.front().shards.dtype;
    arena_.emplace(make_arena(device, "gathered parameters",
                              [&](Arena& arena) { take_buffers(arena, prefetch, type); }));
    data_.register_memory(arena_->memory());
    for (const ShardedParameters& chunk : chunks) data_.register_memory(chunk.shards);
}

void ParameterGatherer::take_buffers(Arena& arena, int prefetch, DType type) {
    std::array<int64_t, 2> largest{0, 0};
    std::array<int, 2> buckets{0, 0};
    for (const auto& chunk : buckets_) {
        for (const Bucket& bucket : chunk) {
            int64_t& size = largest[bucket.is_outsize];
            size = std::max(size, bucket.size);
            if (bucket.size > 0) ++buckets[bucket.is_outsize];
        }
    }
    // The one in use and those ahead of it. Outsize buckets are rare in a pass and cost the most
    // memory.
    const std::array counts{std::min(prefetch + 1, buckets[0]), std::min(1, buckets[1])};
    buffers_.clear();
    for (size_t kind = 0; kind < rings_.size(); ++kind) {
        rings_[kind] = {static_cast<int>(buffers_.size()), counts[kind]};
        for (int i = 0; i < counts[kind]; ++i) {
            buffers_.emplace_back().memory = arena.take(type, {largest[kind]});
        }
    }
}

void ParameterGatherer::begin(std::span<const BucketUse> uses) {
    uses_ = uses;
    next_ = 0;
    look_ahead();
}

void ParameterGatherer::acquire(BucketUse use) {
    TRIREME_CHECK(next_ < uses_.size() && uses_[next_] == use,
                  "buckets to be used in the order that was announced");
    Bucket& bucket = bucket_of(use);
    TRIREME_CHECK(bucket.size > 0, "a bucket that is sharded");
    const bool has_buffer = bucket.buffer != kNone || gather(bucket, next_);
    TRIREME_CHECK(has_buffer, "a free buffer for a bucket");
    bucket.holders += 1;
    ++next_;
    look_ahead();
    Buffer& buffer = buffers_[static_cast<size_t>(bucket.buffer)];
    if (!buffer.is_arriving) return;
    buffer.is_arriving = false;
    device_.compute().wait(buffer.arrival);
}

void ParameterGatherer::release(BucketUse use) noexcept {
    bucket_of(use).holders -= 1;
}

const Tensor& ParameterGatherer::whole(BucketUse use) const {
    const Bucket& bucket =
        buckets_[static_cast<size_t>(use.chunk)][static_cast<size_t>(use.bucket)];
    TRIREME_CHECK(bucket.holders > 0, "parameters of acquired buckets only");
    return buffers_[static_cast<size_t>(bucket.buffer)].whole;
}

void ParameterGatherer::forget() {
    for (Buffer& buffer : buffers_) {
        if (!buffer.bucket) continue;
        TRIREME_CHECK(buffer.bucket->holders == 0, "no parameter in use while they change");
        if (buffer.is_arriving) device_.compute().wait(buffer.arrival);
        buffer.is_arriving = false;
        buffer.bucket->buffer = kNone;
        buffer.bucket = nullptr;
    }
}

// The next buckets that are not in use, each counted once. One that finds no buffer is tried again
// at the next use.
void ParameterGatherer::look_ahead() {
    ++window_;
    int ahead = 0;
    for (size_t i = next_; i < uses_.size() && ahead < prefetch_; ++i) {
        Bucket& bucket = bucket_of(uses_[i]);
        if (bucket.holders > 0 || bucket.last_window == window_) continue;
        bucket.last_window = window_;
        ++ahead;
        if (bucket.buffer == kNone) gather(bucket, i);
    }
}

// For use number `use` of the pass. False when every buffer has something that is needed before.
bool ParameterGatherer::gather(Bucket& bucket, size_t use) {
    const int number = buffer_for(bucket, use);
    if (number == kNone) return false;
    Buffer& buffer = buffers_[static_cast<size_t>(number)];
    // Left over from a pass that ended early.
    if (buffer.is_arriving) device_.compute().wait(buffer.arrival);
    if (buffer.bucket) buffer.bucket->buffer = kNone;
    buffer.bucket = &bucket;
    bucket.buffer = number;
    buffer.whole = buffer.memory.flat_range(0, bucket.size);
    buffer.arrival =
        data_.all_gather(device_.compute(), bucket.shard, buffer.whole, "parameters of a bucket");
    buffer.is_arriving = true;
    ++n_gathers_;
    return true;
}

// An empty buffer, or the one whose bucket is needed last, and after `use`.
int ParameterGatherer::buffer_for(const Bucket& bucket, size_t use) {
    const Ring& ring = rings_[bucket.is_outsize];
    int best = kNone;
    size_t latest = use;
    for (int i = ring.first; i < ring.first + ring.count; ++i) {
        const Buffer& buffer = buffers_[static_cast<size_t>(i)];
        if (!buffer.bucket) return i;
        if (buffer.bucket->holders > 0) continue;
        const size_t next = next_use(*buffer.bucket);
        if (next <= latest) continue;
        latest = next;
        best = i;
    }
    return best;
}

size_t ParameterGatherer::next_use(const Bucket& bucket) {
    size_t i = next_;
    while (i < uses_.size() && &bucket_of(uses_[i]) != &bucket) ++i;
    return i;
}

}  // namespace trireme
