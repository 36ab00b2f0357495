#include "core/cuda/sort.h"

#include <cub/device/device_radix_sort.cuh>

#include "core/cuda/cuda_error.h"
#include "core/error.h"

namespace trireme {

size_t sort_scratch_bytes(int64_t n, int key_bits) {
    size_t bytes = 0;
    check_cuda(cub::DeviceRadixSort::SortPairs(
                   nullptr, bytes, static_cast<const uint32_t*>(nullptr),
                   static_cast<uint32_t*>(nullptr), static_cast<const int32_t*>(nullptr),
                   static_cast<int32_t*>(nullptr), static_cast<int>(n), 0, key_bits),
               "asking for the scratch memory of a sort");
    return bytes;
}

void sort_pairs(cudaStream_t stream, const uint32_t* keys, uint32_t* sorted_keys,
                const int32_t* values, int32_t* sorted_values, int64_t n, int key_bits,
                void* scratch, size_t scratch_bytes) {
    TRIREME_CHECK(n <= INT32_MAX, "pairs that 32 bits can count");
    check_cuda(
        cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, sorted_keys, values,
                                        sorted_values, static_cast<int>(n), 0, key_bits, stream),
        "sorting pairs");
}

}  // namespace trireme
