#pragma once

#include "core/device.h"

namespace trireme {

// The matmul rate this rank reaches now, in FLOP/s: the denominator of MFU where no data sheet
// gives one. Takes about a tenth of a second. Ranks that share cores should call it together.
double measure_matmul_rate(Device& device, DType type);

}  // namespace trireme
