#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"

namespace trireme {

// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// Counter-based: the same (key, counter) gives the same numbers on every rank, mesh and device.
struct PhiloxKey {
    uint32_t lo = 0;
    uint32_t hi = 0;
};

TRIREME_HOST_DEVICE inline std::array<uint32_t, 4> philox(PhiloxKey key,
                                                          std::array<uint32_t, 4> counter) {
    constexpr uint64_t kMultiplier0 = 0xD2511F53u;
    constexpr uint64_t kMultiplier1 = 0xCD9E8D57u;
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = kMultiplier0 * counter[0];
        const uint64_t p1 = kMultiplier1 * counter[2];
        counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key.lo, static_cast<uint32_t>(p1),
                   static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key.hi,
                   static_cast<uint32_t>(p0)};
        key.lo += 0x9E3779B9u;
        key.hi += 0xBB67AE85u;
    }
    return counter;
}

// Uniform in [0, 1) with 24 bits.
TRIREME_HOST_DEVICE inline float uniform_from_bits(uint32_t bits) {
    return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

// Word of the element with this global index: element i is word i % 4 of block i / 4.
// `stream` separates uses that share a key (it fills the upper counter words).
TRIREME_HOST_DEVICE inline uint32_t philox_word(PhiloxKey key, uint64_t stream, uint64_t element) {
    const uint64_t block = element / 4;
    return philox(key, {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                        static_cast<uint32_t>(stream),
                        static_cast<uint32_t>(stream >> 32)})[static_cast<size_t>(element % 4)];
}

// Key of a named use of randomness in a run: FNV-1a of the name, mixed with the seed.
PhiloxKey make_key(uint64_t seed, std::string_view name);

// Standard normals of elements 4 * block to 4 * block + 3 (Box-Muller in double, so that they do
// not depend on vectorisation).
std::array<float, 4> philox_normals(PhiloxKey key, uint64_t stream, uint64_t block);

}  // namespace trireme
