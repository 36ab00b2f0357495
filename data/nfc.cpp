#include "data/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/utf8.h"

namespace trireme {
namespace {

constexpr uint32_t kCodePoints = 0x110000;

constexpr size_t kMaxParts = 32;  // of one code point

int combining_class(int32_t c) {
    return ::utf8proc_get_property(c)->combining_class;
}

// Appends what a code point decomposes into, itself when it stays.
void append_parts(uint32_t c, std::vector<int32_t>& code_points) {
    const size_t begin = code_points.size();
    code_points.resize(begin + kMaxParts);
    int last_class = 0;
    const utf8proc_ssize_t n =
        ::utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), code_points.data() + begin,
                                  kMaxParts, UTF8PROC_DECOMPOSE, &last_class);
    TRIREME_CHECK(n >= 0 && n <= static_cast<utf8proc_ssize_t>(kMaxParts),
                  "decompositions of at most 32 code points");
    code_points.resize(begin + static_cast<size_t>(n));
}

// Sorts marks on the same letter by their combining class. utf8proc would do so by swapping
// neighbours, which takes hours for a line of a million marks.
void order_marks(std::vector<int32_t>& code_points) {
    const auto is_mark = [](int32_t c) { return combining_class(c) != 0; };
    const auto is_before = [](int32_t a, int32_t b) {
        return combining_class(a) < combining_class(b);
    };
    for (auto at = code_points.begin(); at != code_points.end();) {
        const auto begin = std::find_if(at, code_points.end(), is_mark);
        at = std::find_if_not(begin, code_points.end(), is_mark);
        if (!std::is_sorted(begin, at, is_before)) std::stable_sort(begin, at, is_before);
    }
}

std::string normalize(std::string_view text) {
    std::vector<int32_t> code_points;
    for (size_t at = 0; at < text.size();) append_parts(next_code_point(text, at), code_points);
    order_marks(code_points);
    const utf8proc_ssize_t n = ::utf8proc_normalize_utf32(
        code_points.data(), std::ssize(code_points),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    TRIREME_CHECK(n >= 0, "code points to compose");
    std::string normalized;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        append_utf8(static_cast<uint32_t>(code_points[i]), normalized);
    }
    return normalized;
}

// What a code point decomposes into; empty when it stays.
std::vector<uint32_t> canonical_parts(uint32_t c) {
    std::vector<int32_t> parts;
    append_parts(c, parts);
    if (parts.size() == 1 && static_cast<uint32_t>(parts[0]) == c) return {};
    return {parts.begin(), parts.end()};
}

std::vector<bool> make_stable() {
    std::vector<bool> stable(kCodePoints, true);
    std::vector<std::pair<uint32_t, uint32_t>> first_parts;
    for (uint32_t c = 0; c < kCodePoints; ++c) {
        if (combining_class(static_cast<int32_t>(c)) != 0) stable[c] = false;
        const std::vector<uint32_t> parts = canonical_parts(c);
        if (parts.empty()) continue;
        first_parts.emplace_back(c, parts[0]);
        for (size_t i = 1; i < parts.size(); ++i) stable[parts[i]] = false;
        std::string text;
        append_utf8(c, text);
        if (normalize(text) != text) stable[c] = false;
    }
    for (const auto& [c, first] : first_parts) {
        if (!stable[first]) stable[c] = false;
    }
    return stable;
}

// Whether a code point stays as it is when it stands alone, and never combines with what is before
// it: text may be cut before it and the parts normalized on their own.
const std::vector<bool>& stable_code_points() {
    static const std::vector<bool> stable = make_stable();
    return stable;
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& normalized) {
    const std::vector<bool>& stable = stable_code_points();
    size_t done = 0;   // of the text, in `normalized`
    size_t begin = 0;  // of the last stable code point
    for (size_t at = 0; at < text.size();) {
        const size_t here = at;
        // One byte, or two below U+0300: stable.
        if (static_cast<unsigned char>(text[at]) < 0xCC) {
            at += static_cast<unsigned char>(text[at]) < 0x80 ? 1 : 2;
            begin = here;
            continue;
        }
        if (stable[next_code_point(text, at)]) {
            begin = here;
            continue;
        }
        while (at < text.size()) {
            size_t next = at;
            if (stable[next_code_point(text, next)]) break;
            at = next;
        }
        if (done == 0) normalized.clear();
        normalized.append(text.substr(done, begin - done));
        normalized += normalize(text.substr(begin, at - begin));
        done = begin = at;
    }
    if (done == 0) return text;
    normalized.append(text.substr(done));
    return normalized;
}

}  // namespace trireme
