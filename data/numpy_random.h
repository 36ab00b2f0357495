#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>

namespace trireme {

// The part of numpy.random.RandomState that fixes Megatron's sample order, bit for bit: the
// Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998) and the shuffle drawn from it.
class NumpyRandomState {
public:
    explicit NumpyRandomState(uint32_t seed);

    uint32_t next();

    // Uniform in [0, max], by masking and rejecting.
    uint64_t bounded(uint64_t max);

    // In place, from the last element down. The draws depend on the length only.
    template <typename T>
    void shuffle(std::span<T> values) {
        for (size_t i = values.size(); i-- > 1;) {
            std::swap(values[i], values[static_cast<size_t>(bounded(i))]);
        }
    }

private:
    void refill();

    std::array<uint32_t, 624> state_;
    size_t used_ = 624;
};

}  // namespace trireme
