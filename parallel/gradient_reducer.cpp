#include "parallel/gradient_reducer.h"

#include <algorithm>

#include "parallel/coalesced_sum.h"

namespace trireme {

GradientReducer::GradientReducer(Device& device, const GradientGroups& groups,
                                 const ChunkGradients& chunk, const DataParallelOptions& options)
    : device_(device),
      data_(options.zero == 0 ? groups.data : groups.shard),
      tensor_(groups.tensor),
      tensor_kv_(groups.tensor_kv),
      replicas_(options.zero == 0 ? nullptr : groups.replicas),
      reduce_scatter_(options.zero >= 1),
      overlap_(options.overlap),
      bucket_index_(chunk.parameters.size()),
      is_ready_(chunk.parameters.size()),
      is_held_(chunk.parameters.size()),
      own_bucket_(chunk.parameters.size()) {
    const FlatLayout& layout = *chunk.layout;
    const Tensor& gradients = chunk.gradients;
    TRIREME_CHECK(options.zero == 0 || options.zero == 1, "ZeRO stage 0 or 1");
    TRIREME_CHECK(options.gradient_wire == DType::f32 || options.gradient_wire == DType::bf16,
                  "gradients to travel in f32 or bf16");
    TRIREME_CHECK(gradients.dtype == DType::f32 && gradients.elements() == layout.elements,
                  "one f32 gradient for each element of the layout");
    TRIREME_CHECK(!reduce_scatter_ || layout.shards == data_.size(),
                  "as many shards as data ranks");
    int64_t coalesced = 0;
    for (const FlatLayout::Bucket& planned : layout.buckets) {
        Bucket& bucket = buckets_.emplace_back();
        bucket.whole = gradients.flat_range(planned.begin, planned.size);
        const FlatLayout::Range own = reduce_scatter_
                                          ? layout.shard_of(planned, data_.rank())
                                          : FlatLayout::Range{planned.begin, planned.size};
        bucket.shard = gradients.flat_range(own.begin, own.size);
        for (const int i : planned.parameters) {
            const ParameterSpec& spec = chunk.parameters[static_cast<size_t>(i)];
            bucket_index_[static_cast<size_t>(i)] = static_cast<int>(buckets_.size()) - 1;
            own_bucket_[static_cast<size_t>(i)] = spec.own_bucket;
            bucket.n_waits += spec.own_bucket ? 2 : 1;
            const Tensor gradient = gradients.flat_range(layout.offsets[static_cast<size_t>(i)],
                                                         spec.stored_elements());
            if (spec.sharing == ParameterSpec::Sharing::tensor_partial && tensor_.size() > 1) {
                bucket.partial.push_back(gradient);
            }
            if (spec.sharing == ParameterSpec::Sharing::tensor_kv && tensor_kv_.size() > 1) {
                bucket.kv.push_back(gradient);
            }
        }
        coalesced = std::max(
            {coalesced, coalesced_elements(bucket.partial), coalesced_elements(bucket.kv)});
        tell_kept_from_overwritten(bucket);
    }
    const bool rounds = options.gradient_wire == DType::bf16 && data_.size() > 1;
    arena_.emplace(make_arena(device, "gradient reduction", [&](Arena& arena) {
        if (coalesced > 0) scratch_ = arena.take(DType::f32, {coalesced});
        for (Bucket& bucket : buckets_) {
            if (!rounds) continue;
            const int64_t shard = bucket.shard.elements();
            bucket.wire = arena.take(DType::bf16, {bucket.whole.elements()});
            bucket.wire_shard =
                reduce_scatter_ ? bucket.wire.flat_range(data_.rank() * shard, shard) : bucket.wire;
        }
    }));
    // What is summed over tensor ranks is small.
    for (Communicator* group : {&data_, replicas_}) {
        if (!group) continue;
        group->register_memory(gradients);
        if (rounds) group->register_memory(arena_->memory());
    }
    if (options.probe_gradients && (data_.size() > 1 || tensor_.size() > 1 || replicas_)) {
        probe_.emplace(device, static_cast<int>(buckets_.size()));
    }
}

void GradientReducer::tell_kept_from_overwritten(Bucket& bucket) const {
    std::vector<Tensor> sums = bucket.partial;
    sums.insert(sums.end(), bucket.kv.begin(), bucket.kv.end());
    if (data_.size() > 1 || replicas_) sums.push_back(bucket.shard);
    const auto begin_of = [&](const Tensor& sum) {
        return sum.as<float>() - bucket.whole.as<float>();
    };
    std::sort(sums.begin(), sums.end(),
              [&](const Tensor& a, const Tensor& b) { return begin_of(a) < begin_of(b); });
    int64_t seen = 0;
    const auto put_up_to = [&](int64_t end, std::vector<Tensor>& parts) {
        if (end <= seen) return;
        parts.push_back(bucket.whole.flat_range(seen, end - seen));
        seen = end;
    };
    for (const Tensor& sum : sums) {
        put_up_to(begin_of(sum), bucket.kept);
        put_up_to(begin_of(sum) + sum.elements(), bucket.overwritten);
    }
    put_up_to(bucket.whole.elements(), bucket.kept);
}

void GradientReducer::begin_step() {
    std::fill(is_ready_.begin(), is_ready_.end(), char{0});
    is_held_ = own_bucket_;
    for (Bucket& bucket : buckets_) {
        bucket.waits_left = bucket.n_waits;
        bucket.started = false;
    }
    if (probe_) probe_->begin_step();
}

void GradientReducer::parameter_ready(int index) {
    char& is_ready = is_ready_[static_cast<size_t>(index)];
    TRIREME_CHECK(!is_ready, "a gradient to be reported final once a step");
    is_ready = 1;
    count_down(bucket_of(index));
}

void GradientReducer::release(int index) {
    char& is_held = is_held_[static_cast<size_t>(index)];
    TRIREME_CHECK(is_held, "a release of an own_bucket parameter, once a step");
    is_held = 0;
    count_down(bucket_of(index));
}

void GradientReducer::count_down(Bucket& bucket) {
    bucket.waits_left -= 1;
    if (bucket.waits_left == 0 && overlap_) start(bucket);
}

void GradientReducer::start(Bucket& bucket) {
    TRIREME_CHECK(!bucket.started, "no gradient to become final after its bucket has started");
    bucket.started = true;
    for (const Tensor& part : bucket.overwritten) {
        if (probe_) probe_->look_at(number_of(bucket), part);
    }
    sum_shared(bucket.partial, tensor_, "partial gradients");
    sum_shared(bucket.kv, tensor_kv_, "shared key/value gradients");
    bucket.done = {};
    if (data_.size() == 1) return;
    Stream& stream = device_.compute();
    const Tensor whole = bucket.wire ? bucket.wire : bucket.whole;
    const Tensor shard = bucket.wire ? bucket.wire_shard : bucket.shard;
    if (bucket.wire) device_.ops().copy(stream, bucket.whole, bucket.wire);
    bucket.done = reduce_scatter_
                      ? data_.reduce_scatter(stream, whole, shard, "gradient bucket")
                      : data_.all_reduce(stream, whole, ReduceOp::sum, "gradient bucket");
}

// These gradients are small (norms, shared key/value heads): compute can afford to wait.
void GradientReducer::sum_shared(const std::vector<Tensor>& parts, Communicator& group,
                                 const char* label) {
    sum_coalesced(device_, group, parts, scratch_, label);
}

void GradientReducer::finish() {
    Stream& stream = device_.compute();
    for (Bucket& bucket : buckets_) {
        if (!bucket.started) start(bucket);
    }
    for (Bucket& bucket : buckets_) {
        if (!replicas_) break;
        stream.wait(bucket.done);
        bucket.done = replicas_->all_reduce(stream, bucket.wire ? bucket.wire_shard : bucket.shard,
                                            ReduceOp::sum, "gradient bucket of the replicas");
    }
    for (const Bucket& bucket : buckets_) {
        stream.wait(bucket.done);
        if (bucket.wire) device_.ops().copy(stream, bucket.wire_shard, bucket.shard);
    }
}

std::vector<int> GradientReducer::not_finite() {
    if (!probe_) return {};
    for (const Bucket& bucket : buckets_) {
        for (const Tensor& part : bucket.kept) probe_->look_at(number_of(bucket), part);
    }
    return probe_->not_finite();
}

}  // namespace trireme
