#include "data/numpy_random.h"

#include <bit>
#include <limits>

namespace trireme {

NumpyRandomState::NumpyRandomState(uint32_t seed) {
    state_[0] = seed;
    for (uint32_t i = 1; i < state_.size(); ++i) {
        const uint32_t previous = state_[i - 1];
        state_[i] = 1812433253u * (previous ^ (previous >> 30)) + i;
    }
}

void NumpyRandomState::refill() {
    constexpr size_t kShift = 397;
    const size_t n = state_.size();
    for (size_t i = 0; i < n; ++i) {
        const uint32_t joined = (state_[i] & 0x80000000u) | (state_[(i + 1) % n] & 0x7fffffffu);
        const uint32_t twist = (joined & 1u) != 0 ? 0x9908b0dfu : 0u;
        state_[i] = state_[(i + kShift) % n] ^ (joined >> 1) ^ twist;
    }
    used_ = 0;
}

uint32_t NumpyRandomState::next() {
    if (used_ == state_.size()) refill();
    uint32_t y = state_[used_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

uint64_t NumpyRandomState::bounded(uint64_t max) {
    if (max == 0) return 0;
    const uint64_t mask = std::numeric_limits<uint64_t>::max() >> std::countl_zero(max);
    for (;;) {
        uint64_t draw = next();
        if (max > std::numeric_limits<uint32_t>::max()) draw = (draw << 32) | next();
        if ((draw & mask) <= max) return draw & mask;
    }
}

}  // namespace trireme
