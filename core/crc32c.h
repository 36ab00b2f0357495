#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

// CRC-32C (Castagnoli) of a byte string. To continue one, pass the checksum of what came before:
// crc32c(b, n, crc32c(a, m)) is the checksum of a followed by b. Thread-safe.
uint32_t crc32c(const void* data, size_t bytes, uint32_t before = 0);

// The same from tables, without special instructions; what crc32c does on other processors.
uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t before = 0);

// A checksum as files have it, eight lower-case hexadecimal digits. parse_crc throws Error
// (bad_data) that begins with `where` for anything else.
std::string crc_text(uint32_t crc);
uint32_t parse_crc(std::string_view text, const std::string& where);

}  // namespace trireme
