#include "model/parameter_store.h"

#include <algorithm>

#include "core/cpu/parallel_for.h"
#include "core/random.h"
#include "core/rounded_values.h"
#include "parallel/box.h"

namespace trireme {

namespace {

constexpr int64_t kGrain = 1 << 14;  // values that are worth a thread

}  // namespace

int ParameterStore::declare(ParameterSpec spec) {
    TRIREME_CHECK(layout_.offsets.empty(),
                  "parameters to be declared before the layout is planned");
    specs_.push_back(std::move(spec));
    return static_cast<int>(specs_.size()) - 1;
}

void ParameterStore::plan(int shards, int64_t bucket_elements, int zero_stage) {
    zero_stage_ = zero_stage;
    layout_ = zero_stage >= 2 ? plan_flat_layout_by_unit(specs_, shards)
                              : plan_flat_layout(specs_, shards, bucket_elements);
    bucket_of_.clear();
    for (size_t i = 0; i < specs_.size(); ++i) {
        bucket_of_.push_back(layout_.bucket_of(static_cast<int>(i)));
    }
    arrivals_.assign(layout_.buckets.size(), Event());
}

void ParameterStore::take_parameters(const ModelContext& context, Arena& arena) {
    stream_ = &context.stream();
    data_rank_ = context.mesh.data_shard().rank();
    const int64_t held = shards_parameters() ? layout_.shard_elements() : layout_.elements;
    parameters_ = arena.take(context.compute, {held});
}

void ParameterStore::initialise(const ModelContext& context) {
    if (!context.device.keeps_values()) return;
    constexpr int64_t kPiece = 1 << 20;
    const int threads = context.device.host_threads();
    std::vector<float> values;
    std::vector<bf16> rounded;
    for_each_segment(layout_, specs_, held_shard(), [&](const FlatSegment& segment) {
        const ParameterSpec& spec = specs_[static_cast<size_t>(segment.parameter)];
        const int64_t end = std::min(segment.local.begin + segment.local.size, spec.box.elements());
        for (int64_t begin = segment.local.begin; begin < end; begin += kPiece) {
            const int64_t count = std::min(kPiece, end - begin);
            values.resize(static_cast<size_t>(count));
            initial_values(spec, context.seed, begin, count, values.data(), threads);
            const Tensor to =
                parameters_.flat_range(segment.compact.begin + begin - segment.local.begin, count);
            const auto bytes = bytes_in(context.compute, values, rounded, threads);
            context.device.copy_to_device(to.data, bytes.data(), bytes.size());
            context.stream().synchronize();
        }
    });
}

void ParameterStore::for_each_held_part(
    const std::function<void(const ParameterSpec&, const Box&, const Tensor&)>& visit) const {
    for_each_segment(layout_, specs_, held_shard(), [&](const FlatSegment& segment) {
        const ParameterSpec& spec = specs_[static_cast<size_t>(segment.parameter)];
        for (const FlatBox& part : boxes_of_flat_range(spec.box, spec.padding_rows,
                                                       segment.local.begin, segment.local.size)) {
            visit(spec, part.box,
                  parameters_.flat_range(segment.compact.begin + part.offset, part.box.elements()));
        }
    });
}

void ParameterStore::take_gradients(Arena& arena) {
    gradients_ =
        arena.take(DType::f32, {shards_gradients() ? layout_.shard_elements() : layout_.elements});
}

void ParameterStore::attach(GradientSharder& sharder, int chunk) {
    sharder_ = &sharder;
    chunk_ = chunk;
}

void ParameterStore::attach(ParameterGatherer& gatherer, int chunk) {
    gatherer_ = &gatherer;
    chunk_ = chunk;
}

// `flat` begins at element `offset` of the flat layout.
Tensor ParameterStore::view(const Tensor& flat, int64_t offset, int first, int count) const {
    int64_t rows = 0, elements = 0;
    const ParameterSpec& spec = specs_[static_cast<size_t>(first)];
    for (int i = first; i < first + count; ++i) {
        rows += specs_[static_cast<size_t>(i)].box.size[0] +
                specs_[static_cast<size_t>(i)].padding_rows;
        elements += specs_[static_cast<size_t>(i)].stored_elements();
    }
    const Tensor range =
        flat.flat_range(layout_.offsets[static_cast<size_t>(first)] - offset, elements);
    return spec.is_vector ? range : range.reshaped({rows, spec.box.size[1]});
}

Tensor ParameterStore::value(int first, int count) const {
    const FlatLayout::Bucket& bucket = layout_.buckets[static_cast<size_t>(bucket_of(first))];
    if (!shards_parameters() || bucket.is_whole) {
        arrive(bucket_of(first));
        return view(parameters_, 0, first, count);
    }
    TRIREME_CHECK(gatherer_, "sharded parameters to be attached to who gathers them");
    return view(gatherer_->whole(use_of(first)), bucket.begin, first, count);
}

void ParameterStore::acquire_values(int index) const {
    if (gatherer_) gatherer_->acquire(use_of(index));
}

void ParameterStore::release_values(int index) const noexcept {
    if (gatherer_) gatherer_->release(use_of(index));
}

void ParameterStore::forget_gathered() const {
    wait_parameters();
    if (gatherer_) gatherer_->forget();
}

Tensor ParameterStore::gradient(int first, int count) const {
    const FlatLayout::Bucket& bucket = layout_.buckets[static_cast<size_t>(bucket_of(first))];
    if (!shards_gradients() || bucket.is_whole) return view(gradients_, 0, first, count);
    TRIREME_CHECK(sharder_, "sharded gradients to be attached to who reduces them");
    return view(sharder_->staging(chunk_, bucket_of(first)), bucket.begin, first, count);
}

Tensor ParameterStore::reduced_gradient(int index) const {
    if (!shards_gradients()) return gradient(index);
    const FlatLayout::Range own =
        layout_.compact_range(layout_.buckets[static_cast<size_t>(bucket_of(index))]);
    return gradients_.flat_range(own.begin, own.size);
}

void ParameterStore::open_gradients(int index) const {
    if (sharder_) sharder_->open(chunk_, bucket_of(index));
}

void ParameterStore::close_gradients(int index) const {
    if (sharder_) sharder_->close(chunk_, bucket_of(index));
}

void ParameterStore::set_arrival(int bucket, const Event& arrival) {
    arrivals_[static_cast<size_t>(bucket)] = arrival;
}

void ParameterStore::arrive(int bucket) const {
    Event& arrival = arrivals_[static_cast<size_t>(bucket)];
    if (!arrival.source) return;
    stream_->wait(arrival);
    arrival = {};
}

void ParameterStore::wait_parameters() const {
    for (size_t i = 0; i < arrivals_.size(); ++i) arrive(static_cast<int>(i));
}

void ParameterStore::initial_values(const ParameterSpec& spec, uint64_t seed, int64_t begin,
                                    int64_t count, float* to, int threads) {
    if (spec.init_std == 0.0f) {
        std::fill(to, to + count, spec.init_value);
        return;
    }
    const PhiloxKey key = make_key(seed, "init/" + spec.name);
    const int64_t cols = spec.box.size[1];
    parallel_ranges(threads, count, kGrain, [&](int64_t first, int64_t last) {
        std::array<float, 4> normals{};
        int64_t block = -1;
        for (int64_t i = begin + first; i < begin + last; ++i) {
            const int64_t row = spec.box.begin[0] + i / cols;
            const int64_t col = spec.box.begin[1] + i % cols;
            const int64_t element = row * spec.global[1] + col;
            if (element / 4 != block) {
                block = element / 4;
                normals = philox_normals(key, 0, static_cast<uint64_t>(block));
            }
            to[i - begin] = spec.init_std * normals[static_cast<size_t>(element % 4)];
        }
    });
}

}  // namespace trireme
