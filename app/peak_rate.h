#pragma once

#include "core/device.h"

namespace trireme {

// The best matmul rate of this rank's device, in FLOP/s, the denominator of MFU: by the maker's
// data sheet where it is known, else measured and multiplied by `share`, the part of the device
// that the rank has when all that share it compute.
double peak_matmul_rate(Device& device, DType type, double share = 1.0);

// The matmul rate, in FLOP/s, of the fastest of several products: what else runs on the machine
// for a moment does not lower it. Takes about a tenth of a second.
double measure_matmul_rate(Device& device, DType type);

}  // namespace trireme
