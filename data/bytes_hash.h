#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace trireme {

inline uint64_t mix_hash(uint64_t value) {
    value *= 0x9E3779B97F4A7C15u;
    return value ^ (value >> 29);
}

template <typename Word>
uint64_t load_word(const char* data) {
    Word word;
    std::memcpy(&word, data, sizeof word);
    return word;
}

// For tables in memory; it may differ from one build to the next. The last word overlaps the one
// before it rather than being read byte by byte.
inline uint64_t bytes_hash(const char* data, size_t bytes) {
    uint64_t hash = bytes * 0xD6E8FEB86659FD93u;
    if (bytes >= 8) {
        const char* last = data + bytes - 8;
        for (; data < last; data += 8) hash = mix_hash(hash ^ load_word<uint64_t>(data));
        hash = mix_hash(hash ^ load_word<uint64_t>(last));
    } else if (bytes >= 4) {
        hash = mix_hash(hash ^
                        (load_word<uint32_t>(data) | load_word<uint32_t>(data + bytes - 4) << 32));
    } else if (bytes > 0) {
        hash =
            mix_hash(hash ^ (load_word<uint8_t>(data) | load_word<uint8_t>(data + bytes / 2) << 8 |
                             load_word<uint8_t>(data + bytes - 1) << 16));
    }
    return mix_hash(hash);
}

// Whether two stretches of as many bytes are the same; quicker than memcmp() for short ones.
inline bool same_bytes(const char* a, const char* b, size_t bytes) {
    if (bytes >= 8) {
        uint64_t difference =
            load_word<uint64_t>(a + bytes - 8) ^ load_word<uint64_t>(b + bytes - 8);
        for (size_t i = 0; i + 8 < bytes; i += 8) {
            difference |= load_word<uint64_t>(a + i) ^ load_word<uint64_t>(b + i);
        }
        return difference == 0;
    }
    if (bytes >= 4) {
        return load_word<uint32_t>(a) == load_word<uint32_t>(b) &&
               load_word<uint32_t>(a + bytes - 4) == load_word<uint32_t>(b + bytes - 4);
    }
    for (size_t i = 0; i < bytes; ++i) {
        if (a[i] != b[i]) return false;
    }
    return true;
}

}  // namespace trireme
