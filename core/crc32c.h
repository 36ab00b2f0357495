#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme {

// CRC-32C (Castagnoli) of a byte string. To continue one, pass the checksum of what came before:
// crc32c(b, n, crc32c(a, m)) is the checksum of a followed by b. Thread-safe.
uint32_t crc32c(const void* data, size_t bytes, uint32_t before = 0);

// The same from tables, without special instructions; what crc32c does on other processors.
uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t before = 0);

}  // namespace trireme
