#pragma once

#include <vector>

#include "core/arena.h"
#include "model/model_context.h"
#include "parallel/flat_layout.h"
#include "parallel/parameter.h"

namespace trireme {

// The parameters of one model chunk: declared by its layers in forward order, then laid out in one
// flat buffer of the compute type, with their f32 gradients in another.
class ParameterStore {
public:
    // While layers are built: adds a parameter and returns its index.
    int declare(ParameterSpec spec);
    const std::vector<ParameterSpec>& specs() const { return specs_; }

    // Plans the layout for `shards` data ranks; no parameter is declared after this.
    void plan(int shards, int64_t bucket_elements);
    const FlatLayout& layout() const { return layout_; }
    // Takes the two buffers and fills the parameters with their initial values.
    void allocate(const ModelContext& context, Arena& arena, bool with_gradients);

    Tensor parameters() const { return parameters_; }  // [elements], compute type
    Tensor gradients() const { return gradients_; }    // [elements] f32
    Tensor value(int index) const { return view(parameters_, index, 1); }
    Tensor gradient(int index) const { return view(gradients_, index, 1); }
    // Several adjoining parameters as one matrix (or vector).
    Tensor value(int first, int count) const { return view(parameters_, first, count); }
    Tensor gradient(int first, int count) const { return view(gradients_, first, count); }

    // Initial values of elements [begin, begin + count) of a parameter's local storage, in f32.
    // They depend on the seed, the name and the global index alone.
    static void initial_values(const ParameterSpec& spec, uint64_t seed, int64_t begin,
                               int64_t count, float* to);

private:
    Tensor view(const Tensor& flat, int first, int count) const;

    std::vector<ParameterSpec> specs_;
    FlatLayout layout_;
    Tensor parameters_, gradients_;
};

}  // namespace trireme
