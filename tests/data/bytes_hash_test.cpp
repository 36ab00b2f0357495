#include "data/bytes_hash.h"

#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace trireme {
namespace {

uint64_t hash_of(const std::string& text, const HashKey& key) {
    return bytes_hash(text.data(), text.size(), key);
}

size_t places_of(const std::vector<std::string>& texts, const HashKey& key) {
    std::set<uint64_t> places;
    for (const std::string& text : texts) places.insert(hash_of(text, key) % (2 * texts.size()));
    return places.size();
}

std::string text_of(const std::vector<uint64_t>& words) {
    return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint64_t)};
}

// Texts of two words, the second of which undoes what the first did to a hash with this key.
std::vector<std::string> written_for(const HashKey& key, size_t n) {
    std::mt19937_64 random(3);
    std::vector<std::string> texts;
    for (size_t i = 0; i < n; ++i) {
        const uint64_t word = random();
        texts.push_back(text_of({word, mix_hash(key.start ^ word, key.factor)}));
    }
    return texts;
}

TEST_CASE("texts written to meet under one key do not under others", "[data][tokenizer]") {
    const HashKey known{0x0123456789ABCDEFu, 0x9E3779B97F4A7C15u};
    const std::vector<std::string> texts = written_for(known, 4096);
    REQUIRE(places_of(texts, known) == 1);
    const KeyedHash one, other;
    CHECK(one.key.start != other.key.start);
    CHECK(one.key.factor != other.key.factor);
    CHECK(one.key.factor % 2 == 1);
    // Of 4096 marks in twice as many places 3223 are expected to lie alone or first.
    for (const HashKey& key : {one.key, other.key}) {
        const size_t n = places_of(texts, key);
        CHECK(n > 3000);
        CHECK(n < 3450);
    }
}

TEST_CASE("regular keys spread over a table as random ones do", "[data][tokenizer]") {
    // The highest bits of neighbouring words cancel in a hash of lower halves of products.
    std::vector<std::string> texts;
    for (uint64_t choice = 0; choice < 4096; ++choice) {
        std::vector<uint64_t> words;
        for (int pair = 0; pair < 12; ++pair) {
            const uint64_t bit = (choice >> pair & 1) << 63;
            words.insert(words.end(), {0x2020202020202020u ^ bit, 0x2020202020202020u ^ bit});
        }
        texts.push_back(text_of(words));
    }
    CHECK(places_of(texts, HashKey::random()) > 3000);
    // Short texts of the same bytes and of every length, in tables of any size.
    texts.clear();
    for (size_t bytes = 0; bytes < 4096; ++bytes) texts.emplace_back(bytes, 'a');
    CHECK(places_of(texts, HashKey::random()) > 3000);
    for (int i = 0; i < 100; ++i) {
        const KeyedHash keyed;
        for (const int shift : {3, 21, 32}) {
            std::set<uint64_t> places;
            for (uint64_t value = 0; value < 4096; ++value) {
                places.insert(keyed(value << shift | 7) % 8192);
            }
            REQUIRE(places.size() > 3000);
        }
    }
}

}  // namespace
}  // namespace trireme
