#include "parallel/gradient_sharder.h"

#include <algorithm>

#include "parallel/coalesced_sum.h"

namespace trireme {

namespace {

// While one bucket of a layer is filled the one before is on its way. Outsize buckets are rare in a
// step and cost the most memory.
constexpr std::array kBuffers{2, 1};

}  // namespace

GradientSharder::GradientSharder(Device& device, const DataGroups& data, Communicator& tensor,
                                 Communicator& tensor_kv, std::vector<ShardedGradients> chunks,
                                 const DataParallelOptions& options)
    : device_(device),
      data_(data),
      tensor_(tensor),
      tensor_kv_(tensor_kv),
      overlap_(options.overlap) {
    for (const ShardedGradients& gradients : chunks) add_chunk(gradients);
    const bool with_wire = options.gradient_wire == DType::bf16 && data.shard.size() > 1;
    arena_.emplace(make_arena(device, "gradient staging",
                              [&](Arena& arena) { take_buffers(arena, with_wire); }));
    data_.shard.register_memory(arena_->memory());
    for (const ShardedGradients& gradients : chunks) {
        data_.all.register_memory(gradients.accumulated);
        if (data_.replicas) data_.replicas->register_memory(gradients.accumulated);
    }
    if (options.probe_gradients) probe_.emplace(device, n_places_);
}

void GradientSharder::add_chunk(const ShardedGradients& gradients) {
    const FlatLayout& layout = *gradients.layout;
    TRIREME_CHECK(layout.shards == data_.shard.size(), "as many shards as data ranks");
    TRIREME_CHECK(gradients.accumulated.dtype == DType::f32 &&
                      gradients.accumulated.elements() == layout.shard_elements(),
                  "one f32 gradient for each element of the shard");
    std::vector<Bucket>& buckets = buckets_.emplace_back();
    for (const FlatLayout::Bucket& planned : layout.buckets) {
        const FlatLayout::Range own = layout.compact_range(planned);
        Bucket& bucket = buckets.emplace_back();
        bucket.size = planned.is_whole ? 0 : planned.size;
        bucket.place = n_places_++;
        bucket.accumulated = gradients.accumulated.flat_range(own.begin, own.size);
        if (planned.is_whole) {
            wholes_.push_back(bucket.accumulated);
            whole_places_.push_back(bucket.place);
        }
        for (const int i : planned.parameters) {
            if (gradients.parameters[static_cast<size_t>(i)].is_outsize) bucket.is_outsize = true;
        }
    }
    shards_.push_back(gradients.accumulated.flat_range(
        layout.whole_elements, layout.shard_elements() - layout.whole_elements));
    // Sums over other axes are linear, so they are taken once of the shards.
    using Sharing = ParameterSpec::Sharing;
    for_each_segment(
        layout, gradients.parameters, data_.shard.rank(), [&](const FlatSegment& segment) {
            const Sharing sharing =
                gradients.parameters[static_cast<size_t>(segment.parameter)].sharing;
            const Tensor part =
                gradients.accumulated.flat_range(segment.compact.begin, segment.compact.size);
            if (sharing == Sharing::tensor_partial && tensor_.size() > 1) partial_.push_back(part);
            if (sharing == Sharing::tensor_kv && tensor_kv_.size() > 1) kv_.push_back(part);
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
    const int64_t shard = bucket.size / data_.shard.size();
    buffer.received = sent.flat_range(data_.shard.rank() * shard, shard);
    buffer.accumulated = bucket.accumulated;
    buffer.done = data_.shard.reduce_scatter(stream, sent, buffer.received, "gradient bucket");
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
    sum_coalesced(device_, tensor_, partial_, scratch_, "partial gradients");
    sum_coalesced(device_, tensor_kv_, kv_, scratch_, "shared key/value gradients");
    Stream& stream = device_.compute();
    for (const Tensor& shard : shards_) {
        if (!data_.replicas) break;
        stream.wait(data_.replicas->all_reduce(stream, shard, ReduceOp::sum, "replicas"));
    }
    for (const Tensor& whole : wholes_) {
        stream.wait(data_.all.all_reduce(stream, whole, ReduceOp::sum, "whole gradients"));
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
