#include "parallel/gradient_sharder.h"

#include <algorithm>

#include "parallel/coalesced_sum.h"

namespace trireme {

namespace {

// While one bucket of a layer is filled the one before is on its way. Outsize buckets are rare in a
// step and cost the most memory.
constexpr std::array kBuffers{2, 1};

}  // namespace

GradientSharder::GradientSharder(Device& device, const GradientGroups& groups,
                                 const std::vector<ChunkGradients>& chunks,
                                 const DataParallelOptions& options)
    : device_(device), groups_(groups), overlap_(options.overlap) {
    for (const ChunkGradients& chunk : chunks) add_chunk(chunk);
    const bool with_wire = options.gradient_wire == DType::bf16 && groups.shard.size() > 1;
    arena_.emplace(make_arena(device, "gradient staging",
                              [&](Arena& arena) { take_buffers(arena, with_wire); }));
    groups.shard.register_memory(arena_->memory());
    for (const ChunkGradients& chunk : chunks) {
        groups.data.register_memory(chunk.gradients);
        if (groups.replicas) groups.replicas->register_memory(chunk.gradients);
    }
    if (options.probe_gradients) probe_.emplace(device, n_places_);
}

void GradientSharder::add_chunk(const ChunkGradients& chunk) {
    const FlatLayout& layout = *chunk.layout;
    TRIREME_CHECK(layout.shards == groups_.shard.size(), "as many shards as data ranks");
    TRIREME_CHECK(chunk.gradients.dtype == DType::f32 &&
                      chunk.gradients.elements() == layout.shard_elements(),
                  "one f32 gradient for each element of the shard");
    std::vector<Bucket>& buckets = buckets_.emplace_back();
    for (const FlatLayout::Bucket& planned : layout.buckets) {
        const FlatLayout::Range own = layout.compact_range(planned);
        Bucket& bucket = buckets.emplace_back();
        bucket.size = planned.is_whole ? 0 : planned.size;
        bucket.place = n_places_++;
        bucket.accumulated = chunk.gradients.flat_range(own.begin, own.size);
        if (planned.is_whole) {
            wholes_.push_back(bucket.accumulated);
            whole_places_.push_back(bucket.place);
        }
        bucket.is_outsize = planned.is_outsize;
    }
    shards_.push_back(chunk.gradients.flat_range(layout.whole_elements,
                                                 layout.shard_elements() - layout.whole_elements));
    // Sums over other axes are linear, so they are taken once of the shards.
    using Sharing = ParameterSpec::Sharing;
    for_each_segment(
        layout, chunk.parameters, groups_.shard.rank(), [&](const FlatSegment& segment) {
            const Sharing sharing =
                chunk.parameters[static_cast<size_t>(segment.parameter)].sharing;
            const Tensor part =
                chunk.gradients.flat_range(segment.compact.begin, segment.compact.size);
            if (sharing == Sharing::tensor_partial && groups_.tensor.size() > 1)
                partial_.push_back(part);
            if (sharing == Sharing::tensor_kv && groups_.tensor_kv.size() > 1) kv_.push_back(part);
        });
}

void GradientSharder::take_buffers(Arena& arena, bool with_wire) {
    std::array<int64_t, 2> largest{0, 0};
    for (const auto& buckets : buckets_) {
        for (const Bucket& bucket : buckets) {
            int64_t& size = largest[bucket.is_outsize];
            size = std::max(size, bucket.size);
        }
    }
    buffers_.clear();
    for (size_t kind = 0; kind < rings_.size(); ++kind) {
        rings_[kind] = {static_cast<int>(buffers_.size()), largest[kind] > 0 ? kBuffers[kind] : 0,
                        0};
        for (int i = 0; i < rings_[kind].count; ++i) {
            Buffer& buffer = buffers_.emplace_back();
            buffer.memory = arena.take(DType::f32, {largest[kind]});
            if (with_wire) buffer.wire = arena.take(DType::bf16, {largest[kind]});
        }
    }
    const int64_t coalesced = std::max(coalesced_elements(partial_), coalesced_elements(kv_));
    if (coalesced > 0) scratch_ = arena.take(DType::f32, {coalesced});
}

void GradientSharder::begin_step() {
    if (probe_) probe_->begin_step();
}

void GradientSharder::open(int chunk, int bucket_number) {
    Bucket& bucket = bucket_of(chunk, bucket_number);
    if (bucket.buffer >= 0) return;
    Ring& ring = rings_[bucket.is_outsize];
    bucket.buffer = ring.first + ring.next;
    ring.next = (ring.next + 1) % ring.count;
    Buffer& buffer = buffers_[static_cast<size_t>(bucket.buffer)];
    TRIREME_CHECK(!buffer.is_open, "a staging buffer that no bucket has open");
    settle(buffer);
    buffer.is_open = true;
    buffer.whole = buffer.memory.flat_range(0, bucket.size);
    device_.ops().fill_zero(device_.compute(), buffer.whole);
}

const Tensor& GradientSharder::staging(int chunk, int bucket_number) const {
    const Bucket& bucket = buckets_[static_cast<size_t>(chunk)][static_cast<size_t>(bucket_number)];
    TRIREME_CHECK(bucket.buffer >= 0, "gradients of an open bucket only");
    return buffers_[static_cast<size_t>(bucket.buffer)].whole;
}

void GradientSharder::close(int chunk, int bucket_number) {
    Bucket& bucket = bucket_of(chunk, bucket_number);
    if (bucket.buffer < 0) return;
    Buffer& buffer = buffers_[static_cast<size_t>(bucket.buffer)];
    Stream& stream = device_.compute();
    if (probe_) probe_->look_at(bucket.place, buffer.whole);
    Tensor sent = buffer.whole;
    if (buffer.wire) {
        sent = buffer.wire.flat_range(0, bucket.size);
        device_.ops().copy(stream, buffer.whole, sent);
    }
    const int64_t shard = bucket.size / groups_.shard.size();
    buffer.received = sent.flat_range(groups_.shard.rank() * shard, shard);
    buffer.accumulated = bucket.accumulated;
    buffer.done = groups_.shard.reduce_scatter(stream, sent, buffer.received, "gradient bucket");
    buffer.is_open = false;
    buffer.is_sent = true;
    bucket.buffer = -1;
    if (!overlap_) settle(buffer);
}

void GradientSharder::settle(Buffer& buffer) {
    if (!buffer.is_sent) return;
    buffer.is_sent = false;
    device_.compute().wait(buffer.done);
    device_.ops().add(device_.compute(), buffer.received, buffer.accumulated);
}

void GradientSharder::finish() {
    for (const Ring& ring : rings_) {
        // The oldest first: sums are always taken in the order of the calls.
        for (int i = 0; i < ring.count; ++i) {
            const int number = ring.first + (ring.next + i) % ring.count;
            Buffer& buffer = buffers_[static_cast<size_t>(number)];
            TRIREME_CHECK(!buffer.is_open, "every bucket to be closed when the step ends");
            settle(buffer);
        }
    }
    for (size_t i = 0; probe_ && i < wholes_.size(); ++i) {
        probe_->look_at(whole_places_[i], wholes_[i]);
    }
    sum_coalesced(device_, groups_.tensor, partial_, scratch_, "partial gradients");
    sum_coalesced(device_, groups_.tensor_kv, kv_, scratch_, "shared key/value gradients");
    Stream& stream = device_.compute();
    for (const Tensor& shard : shards_) {
        if (!groups_.replicas) break;
        stream.wait(groups_.replicas->all_reduce(stream, shard, ReduceOp::sum, "replicas"));
    }
    for (const Tensor& whole : wholes_) {
        stream.wait(groups_.data.all_reduce(stream, whole, ReduceOp::sum, "whole gradients"));
    }
}

std::vector<int> GradientSharder::not_finite(int chunk) const {
    const std::vector<int> places = probe_ ? probe_->not_finite() : std::vector<int>();
    const auto& buckets = buckets_[static_cast<size_t>(chunk)];
    std::vector<int> numbers;
    for (size_t i = 0; i < buckets.size(); ++i) {
        if (std::find(places.begin(), places.end(), buckets[i].place) != places.end()) {
            numbers.push_back(static_cast<int>(i));
        }
    }
    return numbers;
}

}  // namespace trireme
