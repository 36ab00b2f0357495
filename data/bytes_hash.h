#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace trireme {

inline uint64_t mix_hash(uint64_t value) {
    value *= 0x9E3779B97F4A7C15u;
    return value ^ (value >> 29);
}

// For tables in memory; it may differ from one build to the next.
inline uint64_t bytes_hash(const char* data, size_t bytes) {
    uint64_t hash = bytes * 0xD6E8FEB86659FD93u;
    while (bytes >= sizeof(uint64_t)) {
        uint64_t word;
        std::memcpy(&word, data, sizeof word);
        hash = mix_hash(hash ^ word);
        data += sizeof word;
        bytes -= sizeof word;
    }
    if (bytes > 0) {
        uint64_t word = 0;
        std::memcpy(&word, data, bytes);
        hash = mix_hash(hash ^ word);
    }
    return mix_hash(hash);
}

}  // namespace trireme
