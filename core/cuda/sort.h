#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace trireme {

// Sorting on the device, behind a seam of its own because CUDA's sort is a library of templates
// that takes long to compile, and because the tests without a GPU have another one.

// Bytes that sort_pairs needs for n pairs.
size_t sort_scratch_bytes(int64_t n, int key_bits);

// Enqueues the sort of n (key, value) pairs by the lowest key_bits bits of their keys, the only
// ones that may be set. Pairs of equal keys keep their order. The four arrays and the scratch
// (256-byte aligned) must not overlap.
void sort_pairs(cudaStream_t stream, const uint32_t* keys, uint32_t* sorted_keys,
                const int32_t* values, int32_t* sorted_values, int64_t n, int key_bits,
                void* scratch, size_t scratch_bytes);

}  // namespace trireme
