#include "core/random.h"

#include <cmath>
#include <numbers>

namespace trireme {

PhiloxKey make_key(uint64_t seed, std::string_view name) {
    uint64_t hash = 0xcbf29ce484222325ull;
    const auto mix = [&hash](uint8_t byte) { hash = (hash ^ byte) * 0x100000001b3ull; };
    for (int i = 0; i < 8; ++i) mix(static_cast<uint8_t>(seed >> (8 * i)));
    for (char c : name) mix(static_cast<uint8_t>(c));
    return {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

float philox_normal(PhiloxKey key, uint64_t stream, uint64_t element) {
    const uint64_t pair = element / 2;
    const uint32_t a = philox_word(key, stream, 2 * pair);
    const uint32_t b = philox_word(key, stream, 2 * pair + 1);
    const double u = (static_cast<double>(a) + 1.0) / 4294967296.0;  // (0, 1]
    const double angle = 2.0 * std::numbers::pi * static_cast<double>(b) / 4294967296.0;
    const double radius = std::sqrt(-2.0 * std::log(u));
    return static_cast<float>(radius * (element % 2 == 0 ? std::cos(angle) : std::sin(angle)));
}

}  // namespace trireme
