#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "parallel/communicator.h"

namespace trireme {

// output[i] = sources[0][i] + sources[1][i] + ... in this order, or the largest. bf16 is added in
// f32 and rounded once. A NaN anywhere makes the largest a NaN. output may be one of the sources.
void reduce_in_rank_order(const void* const* sources, int n_sources, int64_t elements, DType dtype,
                          ReduceOp op, void* output);

// Which element types an operation accepts.
bool can_reduce(DType dtype, ReduceOp op);

}  // namespace trireme
