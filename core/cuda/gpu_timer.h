#pragma once

#include <functional>
#include <optional>

#include "core/stream.h"

namespace trireme {

// Microseconds that the GPU takes for what `enqueue` puts on the stream, the mean of some runs
// after others to warm up; nothing when it returns false, which it does where it cannot. Blocks the
// host.
std::optional<double> measure_microseconds(Stream& stream, const std::function<bool()>& enqueue);

}  // namespace trireme
