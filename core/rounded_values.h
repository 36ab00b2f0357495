#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "core/dtype.h"

namespace trireme {

// The bytes of f32 values in a type: their own for f32, or rounded to bf16 in `room` on up to so
// many threads. Valid as long as both are.
std::span<const std::byte> bytes_in(DType type, std::span<const float> values,
                                    std::vector<bf16>& room, int threads = 1);

}  // namespace trireme
