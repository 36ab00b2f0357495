#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/stream.h"

namespace trireme {

// Measures how long a GPU takes for different ways to do the same work. For one GPU's compute
// stream.
class GpuTimer {
public:
    // Enqueues the work once; false where this way cannot do it.
    using Way = std::function<bool()>;

    // Microseconds of each way; nothing for those that cannot do it. The ways take turns, and of
    // each the fastest turn counts, so that what else happens on the GPU meets all alike. Before
    // the first of all, the first way keeps the GPU busy until its clock has risen. Blocks the
    // host.
    std::vector<std::optional<double>> compare(Stream& stream, std::span<const Way> ways);

private:
    bool is_warm_ = false;
};

}  // namespace trireme
