// core/cuda/sort.h without CUDA's library.

#include "core/cuda/sort.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.h"

namespace trireme {

size_t sort_scratch_bytes(int64_t n, int /*key_bits*/) {
    return static_cast<size_t>(n) * 8 + 1;
}

void sort_pairs(cudaStream_t stream, const uint32_t* keys, uint32_t* sorted_keys,
                const int32_t* values, int32_t* sorted_values, int64_t n, int key_bits,
                void* scratch, size_t scratch_bytes) {
    TRIREME_CHECK(scratch_bytes >= sort_scratch_bytes(n, key_bits), "enough scratch for a sort");
    cuda_emulation::enqueue(stream, [=] {
        const uint64_t mask = (uint64_t{1} << key_bits) - 1;
        std::vector<std::pair<uint32_t, int32_t>> pairs;
        for (int64_t i = 0; i < n; ++i) pairs.emplace_back(keys[i], values[i]);
        // As any sort may: what else lies there is lost.
        std::memset(scratch, 0xa5, scratch_bytes);
        std::stable_sort(pairs.begin(), pairs.end(), [mask](const auto& a, const auto& b) {
            return (a.first & mask) < (b.first & mask);
        });
        for (int64_t i = 0; i < n; ++i) {
            sorted_keys[i] = pairs[static_cast<size_t>(i)].first;
            sorted_values[i] = pairs[static_cast<size_t>(i)].second;
        }
    });
}

}  // namespace trireme
