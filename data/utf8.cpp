#include "data/utf8.h"

#include <algorithm>
#include <cstring>

namespace trireme {
namespace {

uint8_t byte_at(std::string_view text, size_t at) {
    return static_cast<uint8_t>(text[at]);
}

bool continues(std::string_view text, size_t at, uint8_t lowest = 0x80, uint8_t highest = 0xBF) {
    return at < text.size() && byte_at(text, at) >= lowest && byte_at(text, at) <= highest;
}

struct Part {
    size_t bytes;
    bool valid;
};

// The character, or the broken part, that begins at `at`.
Part part_at(std::string_view text, size_t at) {
    const uint8_t first = byte_at(text, at);
    if (first < 0x80) return {1, true};
    if (first < 0xC2 || first > 0xF4) return {1, false};
    // The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF.
    const uint8_t lowest = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const uint8_t highest = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (!continues(text, at + 1, lowest, highest)) return {1, false};
    if (first < 0xE0) return {2, true};
    if (!continues(text, at + 2)) return {2, false};
    if (first < 0xF0) return {3, true};
    if (!continues(text, at + 3)) return {3, false};
    return {4, true};
}

// Where the valid text that begins at `at` ends.
size_t valid_until(std::string_view text, size_t at) {
    constexpr uint64_t kHighBits = 0x8080808080808080u;
    while (at < text.size()) {
        if (at + sizeof(uint64_t) <= text.size()) {
            uint64_t word;
            std::memcpy(&word, text.data() + at, sizeof word);
            if ((word & kHighBits) == 0) {
                at += sizeof word;
                continue;
            }
        }
        const Part part = part_at(text, at);
        if (!part.valid) break;
        at += part.bytes;
    }
    return at;
}

}  // namespace

size_t valid_utf8_bytes(std::string_view text) {
    return valid_until(text, 0);
}

std::string_view valid_utf8(std::string_view text, std::string& fixed) {
    size_t at = valid_until(text, 0);
    if (at == text.size()) return text;
    fixed.assign(text.substr(0, at));
    while (at < text.size()) {
        fixed += "\xEF\xBF\xBD";
        at += part_at(text, at).bytes;
        const size_t end = valid_until(text, at);
        fixed.append(text.substr(at, end - at));
        at = end;
    }
    return fixed;
}

uint32_t next_code_point(std::string_view text, size_t& at) {
    const uint8_t first = byte_at(text, at++);
    if (first < 0x80) return first;
    const int n_more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    uint32_t code_point = first & (0x3Fu >> n_more);
    for (int i = 0; i < n_more; ++i) code_point = code_point << 6 | (byte_at(text, at++) & 0x3Fu);
    return code_point;
}

uint32_t code_point_before(std::string_view text, size_t end) {
    size_t at = end - 1;
    while (at > 0 && (byte_at(text, at) & 0xC0u) == 0x80u) --at;
    return next_code_point(text, at);
}

size_t count_code_points(std::string_view text) {
    // Bytes that continue a character are 10xxxxxx.
    return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
        return (static_cast<unsigned char>(byte) & 0xc0u) != 0x80u;
    }));
}

void append_utf8(uint32_t code_point, std::string& text) {
    const auto add = [&](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (code_point < 0x80) {
        add(code_point);
    } else if (code_point < 0x800) {
        add(0xC0 | code_point >> 6);
        add(0x80 | (code_point & 0x3F));
    } else if (code_point < 0x10000) {
        add(0xE0 | code_point >> 12);
        add(0x80 | (code_point >> 6 & 0x3F));
        add(0x80 | (code_point & 0x3F));
    } else {
        add(0xF0 | code_point >> 18);
        add(0x80 | (code_point >> 12 & 0x3F));
        add(0x80 | (code_point >> 6 & 0x3F));
        add(0x80 | (code_point & 0x3F));
    }
}

bool is_white_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

}  // namespace trireme
