#include "data/nfc.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/utf8.h"

namespace trireme {
namespace {

constexpr uint32_t kCodePoints = 0x110000;

std::string normalize(std::string_view text) {
    utf8proc_uint8_t* made = nullptr;
    const utf8proc_ssize_t bytes =
        ::utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                       static_cast<utf8proc_ssize_t>(text.size()), &made,
                       static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
    if (bytes == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
    TRIREME_CHECK(bytes >= 0, "valid UTF-8 to normalize");
    return {reinterpret_cast<const char*>(made), static_cast<size_t>(bytes)};
}

// What a code point decomposes into; empty when it stays.
std::vector<uint32_t> canonical_parts(uint32_t c) {
    std::array<utf8proc_int32_t, 32> parts{};
    int last_class = 0;
    const utf8proc_ssize_t n =
        ::utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), parts.size(),
                                  UTF8PROC_DECOMPOSE, &last_class);
    TRIREME_CHECK(n >= 0 && n <= std::ssize(parts), "decompositions of at most 32 code points");
    if (n == 1 && static_cast<uint32_t>(parts[0]) == c) return {};
    return {parts.begin(), parts.begin() + n};
}

std::vector<bool> make_stable() {
    std::vector<bool> stable(kCodePoints, true);
    std::vector<std::pair<uint32_t, uint32_t>> first_parts;
    for (uint32_t c = 0; c < kCodePoints; ++c) {
        if (::utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class != 0) {
            stable[c] = false;
        }
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
