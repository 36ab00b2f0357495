#include "data/code_point_class.h"

#include <string>
#include <string_view>

#include "data/split_pattern.h"
#include "data/utf8.h"

namespace trireme {
namespace {

using namespace code_point_class;

constexpr uint32_t kCodePoints = 0x110000;

// Calls on_match with each code point of `text` that the class of a regular expression has.
template <typename OnMatch>
void each_match(const char* characters, const std::string& text, const OnMatch& on_match) {
    const SplitPattern pattern(std::string(characters) + "+", "character classes");
    SplitPattern::Matcher matcher(pattern);
    for (size_t at = 0; at < text.size();) {
        const SplitPattern::Matcher::Range run = matcher.find(text, at);
        if (run.begin == std::string_view::npos) return;
        for (at = run.begin; at < run.end;) on_match(next_code_point(text, at));
    }
}

std::vector<uint8_t> make_classes() {
    std::vector<uint8_t> classes(kCodePoints, kOther);
    std::string all;
    all.reserve(size_t{4} * kCodePoints);
    for (uint32_t c = 0; c < kCodePoints; ++c) {
        if (c < 0xD800 || c > 0xDFFF) append_utf8(c, all);
    }
    // Most code points are none of these; only the rest is looked at again.
    std::string some;
    each_match(R"([\p{L}\p{M}\p{N}])", all, [&](uint32_t c) { append_utf8(c, some); });
    const auto mark = [&](const char* characters, uint8_t as) {
        each_match(characters, some, [&](uint32_t c) { classes[c] = as; });
    };
    mark(R"([\p{Lu}\p{Lt}])", kUpper);
    mark(R"(\p{Ll})", kLower);
    mark(R"([\p{Lm}\p{Lo}])", kCaseless);
    mark(R"(\p{M})", kMark);
    mark(R"(\p{N})", kNumber);
    for (uint32_t c = 0; c < kCodePoints; ++c) {
        if (is_white_space(c)) classes[c] = kSpace;
    }
    classes['\r'] = kLineEnd;
    classes['\n'] = kLineEnd;
    return classes;
}

}  // namespace

const std::vector<uint8_t>& code_point_classes() {
    static const std::vector<uint8_t> classes = make_classes();
    return classes;
}

}  // namespace trireme
