#include "model/optimizer.h"

#include <algorithm>
#include <iterator>

#include "parallel/box.h"

namespace trireme {

Optimizer::Optimizer(const ModelContext& context, ParameterStore& store, int zero_stage,
                     Arena& arena)
    : context_(context), store_(store), zero_stage_(zero_stage) {
    const FlatLayout& layout = store.layout();
    const int rank = slice_holders().rank();
    const bool is_sharded = zero_stage >= 1;
    Communicator* copies = is_sharded ? context.mesh.data_replicas() : nullptr;
    const bool is_first_copy = !copies || copies->rank() == 0;
    for (int shard = 0; shard < layout.shards; ++shard) {
        if (is_sharded && shard != rank) continue;
        for_each_segment(layout, store.specs(), shard, [&](const FlatSegment& part) {
            const bool is_whole = store.specs()[static_cast<size_t>(part.parameter)].keep_whole &&
                                  layout.whole_elements > 0;
            segments_.push_back(
                {.parameter = part.parameter,
                 .local = part.local.begin,
                 .value = store.shards_parameters() ? part.compact.begin : part.flat.begin,
                 .gradient = store.shards_gradients() ? part.compact.begin : part.flat.begin,
                 .state = is_sharded ? part.compact.begin : part.flat.begin,
                 .count = part.flat.size,
                 .counted = is_first_copy && (is_whole ? rank == 0 : shard == rank)});
        });
    }
    state_elements_ = is_sharded ? layout.shard_elements() : layout.elements;
    if (context.compute != DType::f32) master_ = arena.take(DType::f32, {state_elements_});
    m_ = arena.take(DType::f32, {state_elements_});
    v_ = arena.take(DType::f32, {state_elements_});
    if (gathers_slices() && !arena.is_measuring()) {
        slice_holders().register_memory(store_.parameters());
    }
}

Communicator& Optimizer::slice_holders() const {
    return zero_stage_ >= 1 ? context_.mesh.data_shard() : context_.mesh.data();
}

Tensor Optimizer::master(const Segment& segment) const {
    return master_ ? master_.flat_range(segment.state, segment.count)
                   : store_.parameters().flat_range(segment.value, segment.count);
}

void Optimizer::initialise() {
    if (!master_ || !context_.device.keeps_values()) return;
    std::vector<float> values;
    for (const Segment& segment : segments_) {
        const ParameterSpec& spec = store_.specs()[static_cast<size_t>(segment.parameter)];
        const int64_t count =
            std::min(segment.count, std::max<int64_t>(0, spec.box.elements() - segment.local));
        values.assign(static_cast<size_t>(segment.count), 0.0f);
        ParameterStore::initial_values(spec, context_.seed, segment.local, count, values.data(),
                                       context_.device.host_threads());
        const Tensor to = master(segment);
        context_.device.copy_to_device(to.data, values.data(), to.bytes());
        context_.stream().synchronize();
    }
}

void Optimizer::for_each_counted_gradient(
    const std::function<void(const ParameterSpec&, const Tensor&)>& visit) const {
    for (const Segment& segment : segments_) {
        const ParameterSpec& spec = store_.specs()[static_cast<size_t>(segment.parameter)];
        if (!segment.counted || !spec.owner) continue;
        visit(spec, store_.gradients().flat_range(segment.gradient, segment.count));
    }
}

void Optimizer::add_squared_norm(const Tensor& total) const {
    for_each_counted_gradient([&](const ParameterSpec&, const Tensor& gradient) {
        context_.ops().add_squared_norm(context_.stream(), gradient, total);
    });
}

void Optimizer::step(const AdamWStep& step, const Tensor& grad_scale) const {
    store_.forget_gathered();
    for (const Segment& segment : segments_) {
        AdamWStep own = step;
        if (!store_.specs()[static_cast<size_t>(segment.parameter)].decay) own.weight_decay = 0;
        context_.ops().adamw(
            context_.stream(), own, store_.gradients().flat_range(segment.gradient, segment.count),
            grad_scale, master(segment), m_.flat_range(segment.state, segment.count),
            v_.flat_range(segment.state, segment.count),
            store_.parameters().flat_range(segment.value, segment.count));
    }
}

bool Optimizer::gathers_slices() const {
    return zero_stage_ >= 1 && !store_.shards_parameters() && slice_holders().size() > 1;
}

void Optimizer::gather_parameters() {
    if (!gathers_slices()) return;
    Communicator& data = slice_holders();
    // In the order in which the next forward needs them.
    const auto& buckets = store_.layout().buckets;
    for (size_t i = buckets.size(); i-- > 0;) {
        if (buckets[i].is_whole) continue;
        const FlatLayout::Range own = store_.layout().shard_of(buckets[i], data.rank());
        const Event arrival = data.all_gather(
            context_.stream(), store_.parameters().flat_range(own.begin, own.size),
            store_.parameters().flat_range(buckets[i].begin, buckets[i].size), "parameters");
        store_.set_arrival(static_cast<int>(i), arrival);
    }
}

void Optimizer::visit_pieces(const std::vector<const Segment*>& segments,
                             const std::function<void(const Piece&)>& visit) const {
    for (const Segment* segment : segments) {
        const ParameterSpec& spec = store_.specs()[static_cast<size_t>(segment->parameter)];
        const Tensor states[] = {master(*segment), m_.flat_range(segment->state, segment->count),
                                 v_.flat_range(segment->state, segment->count)};
        const char* prefixes[] = {"parameter/", "adam_m/", "adam_v/"};
        for (const FlatBox& part :
             boxes_of_flat_range(spec.box, spec.padding_rows, segment->local, segment->count)) {
            for (size_t i = 0; i < std::size(states); ++i) {
                visit({prefixes[i] + spec.name, &spec, part.box,
                       states[i].flat_range(part.offset, part.box.elements())});
            }
        }
    }
}

void Optimizer::for_each_owned_piece(const std::function<void(const Piece&)>& visit) const {
    std::vector<const Segment*> owned;
    for (const Segment& segment : segments_) {
        if (segment.counted && store_.specs()[static_cast<size_t>(segment.parameter)].owner) {
            owned.push_back(&segment);
        }
    }
    visit_pieces(owned, visit);
}

void Optimizer::for_each_kept_piece(const std::function<void(const Piece&)>& visit) const {
    std::vector<const Segment*> kept;
    for (const Segment& segment : segments_) kept.push_back(&segment);
    visit_pieces(kept, visit);
}

void Optimizer::publish_master() {
    store_.forget_gathered();
    for (const Segment& segment : segments_) {
        if (!master_) break;
        context_.ops().copy(context_.stream(), master(segment),
                            store_.parameters().flat_range(segment.value, segment.count));
    }
    gather_parameters();
    wait_parameters();
}

}  // namespace trireme
