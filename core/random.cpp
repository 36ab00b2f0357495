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

std::array<float, 4> philox_normals(PhiloxKey key, uint64_t stream, uint64_t block) {
    const auto words =
        philox(key, {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                     static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)});
    std::array<float, 4> normals;
    for (size_t i = 0; i < 4; i += 2) {
        const double u = (static_cast<double>(words[i]) + 1.0) / 4294967296.0;  // (0, 1]
        const double angle =
            2.0 * std::numbers::pi * static_cast<double>(words[i + 1]) / 4294967296.0;
        const double radius = std::sqrt(-2.0 * std::log(u));
        normals[i] = static_cast<float>(radius * std::cos(angle));
        normals[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
    return normals;
}

}  // namespace trireme
