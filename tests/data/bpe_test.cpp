#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "data/tiktoken_file.h"
#include "data/tokenizer_json.h"
#include "tests/data/tokenizer_test_support.h"

namespace trireme {
namespace {

using Ids = std::vector<int32_t>;
using File = nlohmann::ordered_json;

const ToyVocabulary kToy;

TEST_CASE("pieces of any length merge as the slow way does", "[data][tokenizer]") {
    const auto whole = tokenizer_from_json(
        kToy.json([](File& file) { file["pre_tokenizer"] = ToyVocabulary::byte_level(false); }),
        "toy");
    std::mt19937 random(5);
    for (const size_t bytes : {1u, 2u, 3u, 7u, 34u, 35u, 100u, 255u, 256u, 257u, 300u, 900u}) {
        for (int i = 0; i < 8; ++i) {
            std::string piece;
            while (piece.size() < bytes) {
                const auto token = kToy.tokens[random() % kToy.tokens.size()];
                if (static_cast<unsigned char>(token[0]) < 0x80) piece += token;
                if (random() % 2 == 0) piece += "aathe  "[random() % 7];
            }
            piece.resize(bytes);
            INFO(bytes);
            REQUIRE(encode(*whole, piece) == kToy.merge(piece));
        }
    }
    const std::string run(200001, 'a');
    const Ids ids = encode(*whole, run);
    CHECK(ids.size() == 50001);
    CHECK(whole->decode(ids) == run);
}

// What tiktoken does: of all neighbours that together are a token, those of the lowest rank.
Ids merge_by_rank(const std::map<std::string, int32_t>& ranks, const std::string& piece) {
    const auto rank_of = [&](const std::string& token) {
        const auto at = ranks.find(token);
        return at == ranks.end() ? INT32_MAX : at->second;
    };
    std::vector<std::string> parts;
    for (const char c : piece) parts.emplace_back(1, c);
    for (;;) {
        int32_t best_rank = INT32_MAX;
        size_t best = 0;
        for (size_t i = 0; i + 1 < parts.size(); ++i) {
            const int32_t rank = rank_of(parts[i] + parts[i + 1]);
            if (rank >= best_rank) continue;
            best_rank = rank;
            best = i;
        }
        if (best_rank == INT32_MAX) break;
        parts[best] += parts[best + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    Ids ids;
    for (const std::string& part : parts) ids.push_back(rank_of(part));
    return ids;
}

TEST_CASE("pieces merge by any ranks as the slow way does", "[data][tokenizer]") {
    std::mt19937 random(21);
    const auto word = [&](size_t bytes) {
        std::string text;
        while (text.size() < bytes) text += "abc"[random() % 3];
        return text;
    };
    for (int round = 0; round < 60; ++round) {
        // Longer tokens may have lower ranks than their parts, and some no pair to be made of.
        std::vector<std::string> tokens;
        for (int i = 0; i < 40; ++i) {
            const std::string token = word(2 + random() % 5);
            if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) {
                tokens.push_back(token);
            }
        }
        if (round % 2 == 0) {
            std::stable_sort(tokens.begin(), tokens.end(),
                             [](const auto& a, const auto& b) { return a.size() < b.size(); });
        }
        for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
        std::map<std::string, int32_t> ranks;
        for (const std::string& token : tokens) {
            ranks.emplace(token, static_cast<int32_t>(ranks.size()));
        }
        const auto tokenizer =
            tokenizer_from_tiktoken(tiktoken_file(tokens), "ranks", {.pattern = "gpt2"});
        for (const size_t bytes : {2u, 5u, 9u, 14u, 20u, 40u, 70u, 300u}) {
            for (int i = 0; i < 5; ++i) {
                const std::string piece = word(bytes);
                const auto whole = ranks.find(piece);
                const Ids expected =
                    whole == ranks.end() ? merge_by_rank(ranks, piece) : Ids{whole->second};
                INFO(round << " " << piece);
                REQUIRE(encode(*tokenizer, piece) == expected);
            }
        }
    }
}

TEST_CASE("a rank file may allow any number of pairs to merge", "[data][tokenizer]") {
    std::mt19937 random(8);
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    // Each part of a word is a token, so a token may be cut anywhere: more than five million pairs.
    std::string text;
    for (int i = 0; i < 2; ++i) {
        std::string word;
        while (word.size() < 256) word += static_cast<char>('a' + random() % 26);
        for (size_t bytes = 2; bytes <= word.size(); ++bytes) {
            for (size_t at = 0; at + bytes <= word.size(); ++at) {
                if (bytes > 6 || std::find(tokens.begin() + 256, tokens.end(),
                                           word.substr(at, bytes)) == tokens.end()) {
                    tokens.push_back(word.substr(at, bytes));
                }
            }
        }
        text += word;
    }
    std::map<std::string, int32_t> ranks;
    for (const std::string& token : tokens) {
        ranks.emplace(token, static_cast<int32_t>(ranks.size()));
    }
    const auto tokenizer =
        tokenizer_from_tiktoken(tiktoken_file(tokens), "ranks", {.pattern = "gpt2"});
    for (const size_t start : {0u, 100u, 255u, 300u}) {
        for (const size_t bytes : {90u, 200u}) {
            const std::string piece = "q" + text.substr(start, bytes) + "z";
            const auto whole = ranks.find(piece);
            const Ids expected =
                whole == ranks.end() ? merge_by_rank(ranks, piece) : Ids{whole->second};
            INFO(piece);
            CHECK(encode(*tokenizer, piece) == expected);
        }
    }
}

TEST_CASE("the ids of a text do not depend on the tables' keys", "[data][tokenizer]") {
    const auto one = tokenizer_from_json(kToy.json(), "toy");
    const auto other = tokenizer_from_json(kToy.json(), "toy");
    for (uint32_t seed = 0; seed < 20; ++seed) {
        const std::string text = mixed_text(seed, 100);
        REQUIRE(encode(*one, text) == encode(*other, text));
    }
}

}  // namespace
}  // namespace trireme
