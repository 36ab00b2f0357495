#pragma once

#include <functional>
#include <vector>

#include "core/arena.h"
#include "model/model_context.h"
#include "parallel/flat_layout.h"
#include "parallel/gradient_sharder.h"
#include "parallel/parameter.h"
#include "parallel/parameter_gatherer.h"

namespace trireme {

// The parameters of one model chunk: declared by its layers in forward order, then laid out in one
// flat buffer of the compute type, with their f32 gradients in another. Of either the store may
// hold this data rank's shard only (ZeRO-2 and 3). Then a layer's gradients exist from
// open_gradients to close_gradients, one micro-batch's part of them at a time, and its values
// while there is a ParameterUse of them.
class ParameterStore {
public:
    // While layers are built: adds a parameter and returns its index.
    int declare(ParameterSpec spec);
    const std::vector<ParameterSpec>& specs() const { return specs_; }

    // Plans the layout for `shards` data ranks; no parameter is declared after this. From ZeRO
    // stage 2 on buckets follow the units in which parameters are used, else they have
    // bucket_elements.
    void plan(int shards, int64_t bucket_elements, int zero_stage = 0);
    const FlatLayout& layout() const { return layout_; }
    bool shards_gradients() const { return zero_stage_ >= 2; }
    bool shards_parameters() const { return zero_stage_ >= 3; }
    // The shard of the layout that parameters() holds, or kWholeLayout. In terms of
    // for_each_segment: a segment's place in parameters() is its `compact`.
    int held_shard() const { return shards_parameters() ? data_rank_ : kWholeLayout; }
    // The parts of logical tensors that parameters() holds, padding left out: visit(spec, box,
    // values). `values` lie in parameters() and may still be arriving.
    void for_each_held_part(
        const std::function<void(const ParameterSpec&, const Box&, const Tensor&)>& visit) const;
    // Take the two buffers.
    void take_parameters(const ModelContext& context, Arena& arena);
    void take_gradients(Arena& arena);
    // Fills the parameters with their initial values.
    void initialise(const ModelContext& context);
    // Whoever reduces sharded gradients; this chunk is number `chunk` to it.
    void attach(GradientSharder& sharder, int chunk);
    // The same for who gathers sharded parameters.
    void attach(ParameterGatherer& gatherer, int chunk);

    // [elements], or [shard elements] of this rank's shard; compute type
    Tensor parameters() const { return parameters_; }
    // [elements] f32, or [shard elements] of which this rank accumulates the sums.
    Tensor gradients() const { return gradients_; }
    // Several adjoining parameters as one matrix (or vector). Compute waits for values that are
    // still arriving.
    Tensor value(int first, int count = 1) const;
    Tensor gradient(int first, int count = 1) const;
    // What this rank has of the whole step's gradient of an own_bucket parameter, after it is
    // reduced: its shard of the bucket, or all of it.
    Tensor reduced_gradient(int index) const;

    // The parameter's bucket as the gatherer knows it.
    BucketUse use_of(int index) const { return {chunk_, bucket_of(index)}; }
    // See ParameterUse. Nothing to do while parameters are held whole.
    void acquire_values(int index) const;
    void release_values(int index) const noexcept;
    // Before parameters() is written: what was gathered from it is no longer true.
    void forget_gathered() const;

    // Around all that adds to the gradients of the parameter's bucket for one micro-batch. Nothing
    // to do while gradients are held whole.
    void open_gradients(int index) const;
    void close_gradients(int index) const;

    // The values of a bucket are to be used when `arrival` is complete, and not before.
    void set_arrival(int bucket, const Event& arrival);
    // Makes compute wait for all values.
    void wait_parameters() const;

    // Initial values of elements [begin, begin + count) of a parameter's local storage, in f32.
    // They depend on the seed, the name and the global index alone. On up to `threads` threads.
    static void initial_values(const ParameterSpec& spec, uint64_t seed, int64_t begin,
                               int64_t count, float* to, int threads);

private:
    int bucket_of(int index) const { return bucket_of_[static_cast<size_t>(index)]; }
    Tensor view(const Tensor& flat, int64_t offset, int first, int count) const;
    void arrive(int bucket) const;

    std::vector<ParameterSpec> specs_;
    FlatLayout layout_;
    std::vector<int> bucket_of_;  // each parameter
    int zero_stage_ = 0;
    int data_rank_ = 0;
    Tensor parameters_, gradients_;
    Stream* stream_ = nullptr;             // that computes
    mutable std::vector<Event> arrivals_;  // of each bucket's values
    GradientSharder* sharder_ = nullptr;
    ParameterGatherer* gatherer_ = nullptr;
    int chunk_ = 0;
};

// Keeps the values of a parameter's bucket in memory while in scope; compute waits for them first.
// The parts of the model make uses in the order that they list (list_uses).
class ParameterUse {
public:
    ParameterUse(const ParameterStore& store, int index) : store_(store), index_(index) {
        store_.acquire_values(index_);
    }
    ~ParameterUse() { store_.release_values(index_); }
    ParameterUse(const ParameterUse&) = delete;
    ParameterUse& operator=(const ParameterUse&) = delete;

private:
    const ParameterStore& store_;
    int index_;
};

}  // namespace trireme
