#include "data/split_scanner.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "data/code_point_class.h"
#include "data/split_pattern.h"
#include "data/utf8.h"

namespace trireme {
namespace {

// One of the known patterns, as PCRE2 cuts and as the scanner does.
class BothWays {
public:
    explicit BothWays(std::string_view pattern)
        : pattern_(pattern, "test"), matcher_(pattern_), scanner_(pattern) {
        REQUIRE(!scanner_.empty());
    }

    // Where they first differ, as text; empty when they agree.
    std::string difference(const std::string& text) {
        for (size_t at = 0; at < text.size();) {
            const SplitPattern::Matcher::Range match = matcher_.find(text, at);
            const size_t end = scanner_.end_of_piece(text, at);
            if (match.begin != at || match.end != end) {
                return "at byte " + std::to_string(at) + " a piece to " +
                       std::to_string(match.end) + ", scanned to " + std::to_string(end) +
                       " of: " + text;
            }
            at = end;
        }
        return "";
    }

private:
    SplitPattern pattern_;
    SplitPattern::Matcher matcher_;
    SplitScanner scanner_;
};

std::vector<BothWays> all_patterns() {
    std::vector<BothWays> all;
    all.reserve(4);
    for (const std::string_view pattern : {split_patterns::kGpt2, split_patterns::kCl100k,
                                           split_patterns::kQwen, split_patterns::kO200k}) {
        all.emplace_back(pattern);
    }
    return all;
}

std::string utf8_of(uint32_t code_point) {
    std::string text;
    append_utf8(code_point, text);
    return text;
}

// Characters that the patterns tell apart or that a scanner is likely to get wrong.
const std::vector<std::string>& hostile_parts() {
    static const std::vector<std::string> parts = [] {
        std::vector<std::string> all = {
            "'",  "s",  "S", "t",  "D", "m", "re", "VE", "lL", "l",
            "\r", "\n", " ", "\t", "/", "!", "1",  "x",  "X",  std::string(1, '\0')};
        for (const uint32_t c :
             {0x7fu,   0x85u,   0xa0u,    0x3000u, 0x180eu,  0x200bu, 0x2028u,  // white or like it
              0x17fu,  0x212au, 0xc0u,    0xdfu,   0x1c5u,   0x2b0u,  0x4e2du,  // letters
              0x301u,  0x903u,  0x20ddu,                                        // marks
              0x663u,  0x2167u, 0xbdu,                                          // numbers
              0xfffdu, 0x200du, 0x1f600u, 0xe000u, 0x10ffffu}) {
            all.push_back(utf8_of(c));
        }
        return all;
    }();
    return parts;
}

TEST_CASE("a scanner is made of the known patterns only", "[data][tokenizer]") {
    CHECK(SplitScanner("").empty());
    CHECK(SplitScanner(R"(\s+)").empty());
    CHECK(SplitScanner(std::string(split_patterns::kGpt2) + "|x").empty());
    CHECK(!SplitScanner(split_patterns::kGpt2).empty());
}

TEST_CASE("scanners cut every short text as the patterns do", "[data][tokenizer]") {
    std::vector<BothWays> patterns = all_patterns();
    const auto& parts = hostile_parts();
    for (BothWays& both : patterns) {
        std::string difference;
        for (const std::string& a : parts) {
            for (const std::string& b : parts) {
                for (const std::string& c : parts) {
                    if (difference.empty()) difference = both.difference(a + b + c);
                }
            }
        }
        CHECK(difference == "");
    }
}

TEST_CASE("scanners cut random text as the patterns do", "[data][tokenizer]") {
    std::vector<BothWays> patterns = all_patterns();
    const auto& parts = hostile_parts();
    std::mt19937 random(11);
    for (int i = 0; i < 30000; ++i) {
        std::string text;
        // Few kinds of characters in a text make long runs of each.
        const size_t n_kinds = 2 + random() % 6;
        std::vector<std::string> kinds;
        for (size_t k = 0; k < n_kinds; ++k) kinds.push_back(parts[random() % parts.size()]);
        for (auto n = 1 + random() % 24; n > 0; --n) text += kinds[random() % n_kinds];
        if (i % 4 == 0) {  // any bytes, repaired as a tokenizer does
            for (auto n = random() % 8; n > 0; --n) {
                text[random() % text.size()] = static_cast<char>(random());
            }
        }
        std::string storage;
        const std::string valid(valid_utf8(text, storage));
        for (BothWays& both : patterns) {
            const std::string difference = both.difference(valid);
            if (difference != "") FAIL(difference);
        }
    }
}

TEST_CASE("scanners class every code point as the patterns do", "[data][tokenizer]") {
    std::vector<BothWays> patterns = all_patterns();
    std::string text;
    for (uint32_t c = 0; c < 0x110000; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        // Unassigned and private planes: the edges of each will do.
        if (c >= 0x33500 && c < 0xE0000 && (c & 0xFFFF) >= 2 && (c & 0xFFFF) < 0xFFFE) continue;
        if (c >= 0xE0400 && (c & 0xFFFF) >= 2 && (c & 0xFFFF) < 0xFFFE) continue;
        append_utf8(c, text);
        text += "a A"[c % 3];
    }
    for (BothWays& both : patterns) CHECK(both.difference(text).substr(0, 80) == "");
    CHECK(code_point_classes()[0x180e] == code_point_class::kOther);
    CHECK(code_point_classes()[0x3000] == code_point_class::kSpace);
}

}  // namespace
}  // namespace trireme
