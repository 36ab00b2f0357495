#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace trireme {

// Enqueues first[c] += the sum of column c of partials [rows, cols], in f32 and in an order given
// by the shape alone. Where there is a second: partials are [rows, 2 cols], and second[c] += the
// sum of column cols + c. For the sums that blocks leave: some thousand rows at most.
void add_columns(cudaStream_t stream, const float* partials, int64_t rows, int64_t cols,
                 float* first, float* second);

}  // namespace trireme
