#pragma once

#include "core/device.h"

namespace trireme {

// The best matmul rate of this rank's device, in FLOP/s, the denominator of MFU: by the maker's
// data sheet where it is known, else measured. Ranks that share a device should call it together.
double peak_matmul_rate(Device& device, DType type);

// The matmul rate this rank reaches now, in FLOP/s. Takes about a tenth of a second.
double measure_matmul_rate(Device& device, DType type);

}  // namespace trireme
