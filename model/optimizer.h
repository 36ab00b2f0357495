#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/arena.h"
#include "model/parameter_store.h"

namespace trireme {

// AdamW over the flat buffers of one model chunk. Master weights (where parameters are bf16) and
// moments are f32 and cover what this data rank updates: with ZeRO-1 and above its slice of every
// bucket (and all of those that are kept whole), with ZeRO-0 everything.
class Optimizer {
public:
    Optimizer(const ModelContext& context, ParameterStore& store, int zero_stage, Arena& arena);

    // Fills the master weights from the seed, as the parameters were. After allocation; the moments
    // start at zero.
    void initialise();

    // total (f64 scalar) += squared norm of the reduced gradients that this rank counts, so that
    // the sum over all ranks counts every parameter of the model once.
    void add_squared_norm(const Tensor& total) const;

    // The reduced gradients that it counts, a stretch of one parameter at a time.
    void for_each_counted_gradient(
        const std::function<void(const ParameterSpec&, const Tensor&)>& visit) const;

    // Updates what this rank owns. Matrices decay, vectors do not.
    void step(const AdamWStep& step, const Tensor& grad_scale) const;

    // ZeRO-1 and 2: starts gathering the updated slices of every bucket. The store waits for each
    // when it is used; wait_parameters() makes compute wait for all. Nothing to do with ZeRO-0.
    void gather_parameters();
    void wait_parameters() const { store_.wait_parameters(); }

    // The pieces of logical tensors that this rank saves and loads. Names: "parameter/NAME" (the
    // f32 master), "adam_m/NAME", "adam_v/NAME".
    struct Piece {
        std::string name;
        const ParameterSpec* spec = nullptr;
        Box box;
        Tensor values;  // [elements] f32, on the device
    };
    // For saving: each element once over all ranks.
    void for_each_owned_piece(const std::function<void(const Piece&)>& visit) const;
    // For loading and comparing: all that this rank keeps. Who writes to the master weights makes
    // the store forget gathered parameters first.
    void for_each_kept_piece(const std::function<void(const Piece&)>& visit) const;
    // After loading: rounds the master weights into the parameters and gathers them.
    void publish_master();

private:
    // A stretch of one parameter within what this rank updates.
    struct Segment {
        int parameter = 0;
        int64_t local = 0;     // first element in the parameter's local storage
        int64_t value = 0;     // in the store's parameters
        int64_t gradient = 0;  // in the store's gradients
        int64_t state = 0;     // in master and moments
        int64_t count = 0;
        bool counted = false;  // this data rank's own slice
    };

    // The data ranks over which the slices are spread.
    Communicator& slice_holders() const;
    bool gathers_slices() const;  // after each step
    void visit_pieces(const std::vector<const Segment*>& segments,
                      const std::function<void(const Piece&)>& visit) const;
    Tensor master(const Segment& segment) const;

    const ModelContext& context_;
    ParameterStore& store_;
    int zero_stage_;
    std::vector<Segment> segments_;
    int64_t state_elements_ = 0;
    Tensor master_, m_, v_;  // [state elements] f32; master only where parameters are not f32
};

}  // namespace trireme
