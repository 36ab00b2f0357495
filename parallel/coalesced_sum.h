#pragma once

#include <span>
#include <vector>

#include "core/device.h"
#include "parallel/communicator.h"

namespace trireme {

// Elements of scratch that sum_coalesced needs.
int64_t coalesced_elements(std::span<const Tensor> parts);

// Sums small f32 tensors over a group in one operation, which costs less than one each, and makes
// compute wait for it. scratch: [coalesced_elements(parts)] or more.
void sum_coalesced(Device& device, Communicator& group, std::span<const Tensor> parts,
                   const Tensor& scratch, const char* label);

}  // namespace trireme
