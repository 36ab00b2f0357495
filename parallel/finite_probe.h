#pragma once

#include <optional>
#include <vector>

#include "core/arena.h"
#include "core/device.h"

namespace trireme {

// Remembers whether what this rank was about to add to other ranks' gradients was finite. After the
// sum a NaN is everywhere; this says where it came from. Costs one pass over what it looks at, on
// the device. Nothing is allocated after construction.
class FiniteProbe {
public:
    FiniteProbe(Device& device, int n_places);

    void begin_step();
    // Enqueued on the compute stream; the gradient (f32) may change afterwards.
    void look_at(int place, const Tensor& gradient);
    // The places at which something since begin_step() was not finite. Blocks.
    std::vector<int> not_finite() const;

    const Arena& arena() const { return *arena_; }

private:
    Device& device_;
    std::optional<Arena> arena_;
    Tensor squares_;  // [places] f64: a sum of squares of finite f32 values is finite in f64
};

}  // namespace trireme
