#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

// How many bytes at the beginning are valid UTF-8: all of them, or those before a broken part.
size_t valid_utf8_bytes(std::string_view text);

// The text itself when it is valid UTF-8; else a copy in `fixed` in which every broken part became
// U+FFFD. A broken part is the longest beginning of a character that is not continued as it must
// be, or one byte that begins none: the practice of the Unicode Standard, and what Python's
// errors="replace" does. Surrogates and code points above U+10FFFF are broken.
std::string_view valid_utf8(std::string_view text, std::string& fixed);

// The code point that begins at `at` of valid UTF-8; moves `at` behind it.
uint32_t next_code_point(std::string_view text, size_t& at);

// The code point that ends at `end` > 0 of valid UTF-8.
uint32_t code_point_before(std::string_view text, size_t end);

// How many code points valid UTF-8 holds.
size_t count_code_points(std::string_view text);

void append_utf8(uint32_t code_point, std::string& text);

// The 25 code points with Unicode's property White_Space.
bool is_white_space(uint32_t code_point);

}  // namespace trireme
