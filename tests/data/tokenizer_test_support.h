#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "data/byte_level.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

namespace trireme {

inline std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::string& text) {
    std::vector<int32_t> ids;
    tokenizer.encode(text, ids);
    return ids;
}

// A rank file of these tokens, in order.
inline std::string tiktoken_file(const std::vector<std::string>& tokens) {
    static constexpr char kDigits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string file;
    for (size_t rank = 0; rank < tokens.size(); ++rank) {
        const std::string& token = tokens[rank];
        for (size_t i = 0; i < token.size(); i += 3) {
            uint32_t bits = 0;
            for (size_t j = 0; j < 3; ++j) {
                bits = bits << 8 |
                       (i + j < token.size() ? static_cast<unsigned char>(token[i + j]) : 0u);
            }
            for (size_t j = 0; j < 4; ++j) {
                const bool pads = j > token.size() - i;
                file.push_back(pads ? '=' : kDigits[bits >> (18 - 6 * j) & 63]);
            }
        }
        file += " " + std::to_string(rank) + "\n";
    }
    return file;
}

// A small byte-level vocabulary: 256 bytes in a mixed order, then a token for each merge.
class ToyVocabulary {
public:
    ToyVocabulary() {
        for (int i = 0; i < 256; ++i) add(std::string(1, static_cast<char>((i * 77 + 13) % 256)));
        for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
                 {"t", "h"},       {"th", "e"},          {" ", "the"}, {"i", "n"},
                 {"e", "r"},       {" ", " "},           {"  ", "  "}, {"a", "a"},
                 {"aa", "a"},      {"aa", "aa"},         {"1", "2"},   {"12", "3"},
                 {"\xc3", "\xa9"}, {"h", "e"},           {"l", "l"},   {"he", "ll"},
                 {"hell", "o"},    {"\r", "\n"},         {"\n", "\n"}, {"'", "s"},
                 {"\xe4", "\xb8"}, {"\xe4\xb8", "\xad"}, {"in", "g"},  {" ", "s"},
                 {"\xf0", "\x9f"}, {"\xf0\x9f", "\x98"}, {"!", "!"},   {"x", "y"}}) {
            merges.emplace_back(left, right);
            add(left + right);
        }
    }

    int32_t id(const std::string& token) const { return ids.at(token); }

    // What merging gives, done the slow way: always the best pair over the whole piece.
    std::vector<int32_t> merge(const std::string& piece) const {
        std::vector<std::string> parts;
        for (const char c : piece) parts.emplace_back(1, c);
        for (;;) {
            size_t best_rank = merges.size();
            size_t best = 0;
            for (size_t i = 0; i + 1 < parts.size(); ++i) {
                for (size_t rank = 0; rank < best_rank; ++rank) {
                    if (merges[rank] != std::pair(parts[i], parts[i + 1])) continue;
                    best_rank = rank;
                    best = i;
                }
            }
            if (best_rank == merges.size()) break;
            parts[best] += parts[best + 1];
            parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
        }
        std::vector<int32_t> result;
        for (const std::string& part : parts) result.push_back(id(part));
        return result;
    }

    // GPT-2's form of a tokenizer.json, changed by `change`.
    std::string json(const std::function<void(nlohmann::ordered_json&)>& change = {},
                     bool pairs = false) const {
        nlohmann::ordered_json file;
        file["version"] = "1.0";
        file["truncation"] = nullptr;
        file["padding"] = nullptr;
        file["added_tokens"] = nlohmann::ordered_json::array();
        add_token(file, static_cast<int>(ids.size()), "<|endoftext|>", true);
        file["normalizer"] = nullptr;
        file["pre_tokenizer"] = byte_level(true);
        file["post_processor"] = {{"type", "ByteLevel"}, {"trim_offsets", true}};
        file["decoder"] = byte_level(true);
        auto& model = file["model"];
        model = {{"type", "BPE"},
                 {"dropout", nullptr},
                 {"unk_token", nullptr},
                 {"fuse_unk", false},
                 {"byte_fallback", false},
                 {"ignore_merges", false},
                 {"continuing_subword_prefix", nullptr},
                 {"end_of_word_suffix", nullptr}};
        for (const auto& [token, id] : ids) model["vocab"][byte_level_of(token)] = id;
        for (const auto& [left, right] : merges) {
            const std::string a = byte_level_of(left);
            const std::string b = byte_level_of(right);
            if (pairs) {
                model["merges"].push_back({a, b});
            } else {
                model["merges"].push_back(a + " " + b);
            }
        }
        if (change) change(file);
        return file.dump();
    }

    static nlohmann::ordered_json byte_level(bool use_regex, bool prefix_space = false) {
        return {{"type", "ByteLevel"},
                {"add_prefix_space", prefix_space},
                {"trim_offsets", true},
                {"use_regex", use_regex}};
    }

    static nlohmann::ordered_json split(const std::string& pattern) {
        return {{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Split"},
                   {"pattern", {{"Regex", pattern}}},
                   {"behavior", "Isolated"},
                   {"invert", false}},
                  byte_level(false)}}};
    }

    static nlohmann::ordered_json& add_token(nlohmann::ordered_json& file, int id,
                                             const std::string& content, bool special) {
        file["added_tokens"].push_back({{"id", id},
                                        {"content", content},
                                        {"single_word", false},
                                        {"lstrip", false},
                                        {"rstrip", false},
                                        {"normalized", !special},
                                        {"special", special}});
        return file["added_tokens"].back();
    }

    std::string tiktoken() const { return tiktoken_file(tokens); }

    std::vector<std::string> tokens;
    std::map<std::string, int32_t> ids;
    std::vector<std::pair<std::string, std::string>> merges;

private:
    void add(const std::string& token) {
        ids[token] = static_cast<int32_t>(tokens.size());
        tokens.push_back(token);
    }
};

// Text of all kinds of characters, valid UTF-8.
inline std::string mixed_text(uint32_t seed, size_t n_parts) {
    static const std::vector<std::string> parts = {"the",
                                                   " the",
                                                   "hello",
                                                   "aaaaaaa",
                                                   " ",
                                                   "  ",
                                                   "\n",
                                                   "\r\n",
                                                   "\t",
                                                   "123",
                                                   "12345",
                                                   "'s",
                                                   "'S",
                                                   "!!",
                                                   "\xc3\xa9",
                                                   "\xe4\xb8\xad",
                                                   "\xf0\x9f\x98\x80",
                                                   "e\xcc\x81",
                                                   "\xc2\xa0",
                                                   "\xe1\xa0\x8e",
                                                   "\xe3\x80\x80",
                                                   "xy",
                                                   "_",
                                                   "<|endoftext|>",
                                                   "\xd9\x85",
                                                   std::string(1, '\0')};
    std::mt19937 random(seed);
    std::string text;
    for (size_t i = 0; i < n_parts; ++i) {
        if (random() % 4 != 0) {
            text += parts[random() % parts.size()];
            continue;
        }
        auto code_point = static_cast<uint32_t>(random() % 0x110000);
        if (code_point >= 0xD800 && code_point < 0xE000) code_point = 'x';
        append_utf8(code_point, text);
    }
    return text;
}

}  // namespace trireme
