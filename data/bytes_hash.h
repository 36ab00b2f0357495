#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace trireme {

// A table's secret numbers. Who does not know them cannot write keys that all meet in one place of
// it, which would make a table of n keys cost n^2.
struct HashKey {
    uint64_t start;
    uint64_t factor;  // odd

    // Differs from call to call and from process to process.
    static HashKey random();
};

// Both halves of the product: the upper one depends on every bit, the lower one alone would keep
// the difference of two values in their highest bit whatever the factor.
inline uint64_t mix_hash(uint64_t value, uint64_t factor) {
    const auto product = static_cast<unsigned __int128>(value) * factor;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

template <typename Word>
uint64_t load_word(const char* data) {
    Word word;
    std::memcpy(&word, data, sizeof word);
    return word;
}

// For tables in memory. The last word overlaps the one before it rather than being read byte by
// byte.
inline uint64_t bytes_hash(const char* data, size_t bytes, const HashKey& key) {
    uint64_t hash = key.start;
    if (bytes >= 8) {
        const char* last = data + bytes - 8;
        for (; data < last; data += 8) {
            hash = mix_hash(hash ^ load_word<uint64_t>(data), key.factor);
        }
        hash = mix_hash(hash ^ load_word<uint64_t>(last), key.factor);
    } else if (bytes >= 4) {
        const uint64_t word = load_word<uint32_t>(data) | load_word<uint32_t>(data + bytes - 4)
                                                              << 32;
        hash = mix_hash(hash ^ word, key.factor);
    } else if (bytes > 0) {
        const uint64_t word = load_word<uint8_t>(data) | load_word<uint8_t>(data + bytes / 2) << 8 |
                              load_word<uint8_t>(data + bytes - 1) << 16;
        hash = mix_hash(hash ^ word, key.factor);
    }
    return mix_hash(hash ^ bytes, key.factor);
}

// Twice, because a single product may send evenly spaced values to few places.
inline uint64_t word_hash(uint64_t value, const HashKey& key) {
    return mix_hash(mix_hash(value ^ key.start, key.factor), key.factor);
}

// For the standard library's tables, whose own hashes anyone can compute.
struct KeyedHash {
    HashKey key = HashKey::random();

    size_t operator()(std::string_view bytes) const {
        return bytes_hash(bytes.data(), bytes.size(), key);
    }
    size_t operator()(uint64_t value) const { return word_hash(value, key); }
};

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
