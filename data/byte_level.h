#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace trireme {

// Byte-level vocabularies write each byte as a printable character: bytes 0x21-0x7E, 0xA1-0xAC and
// 0xAE-0xFF as the code point of that number, the other 68 as U+0100 and on.

std::string byte_level_of(std::string_view bytes);

// The bytes that valid UTF-8 text stands for; nothing when it holds any other character.
std::optional<std::string> bytes_of_byte_level(std::string_view text);

}  // namespace trireme
