#include "core/crc32c.h"

#include <array>
#include <cstdio>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "core/error.h"

namespace trireme {

namespace {

constexpr uint32_t kPolynomial = 0x82f63b78u;  // bits reversed

using ByteTable = std::array<uint32_t, 256>;

// tables[k][b]: effect of byte b followed by k zero bytes.
constexpr std::array<ByteTable, 8> make_tables() {
    std::array<ByteTable, 8> tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? kPolynomial : 0u);
        tables[0][byte] = crc;
    }
    for (size_t k = 1; k < 8; ++k) {
        for (size_t byte = 0; byte < 256; ++byte) {
            const uint32_t crc = tables[k - 1][byte];
            tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xffu];
        }
    }
    return tables;
}

constexpr std::array<ByteTable, 8> kTables = make_tables();

// The functions below work on the register itself; crc32c inverts it before and after.
uint32_t update_portable(uint32_t crc, const uint8_t* p, size_t bytes) {
    for (; bytes >= 8; p += 8, bytes -= 8) {
        uint64_t word = 0;
        std::memcpy(&word, p, 8);
        word ^= crc;
        crc = 0;
        for (size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xffu];
    }
    for (; bytes > 0; ++p, --bytes) crc = (crc >> 8) ^ kTables[0][(crc ^ *p) & 0xffu];
    return crc;
}

#if defined(__x86_64__)

constexpr size_t kLane = 4096;  // bytes of each of three interleaved streams

// Moves a register past kLane zero bytes. The move is linear, so four tables of bytes do.
class LaneShift {
public:
    LaneShift() {
        const std::array<uint8_t, kLane> zeros{};
        std::array<uint32_t, 32> of_bit{};
        for (size_t bit = 0; bit < 32; ++bit) {
            of_bit[bit] = update_portable(1u << bit, zeros.data(), kLane);
        }
        for (size_t k = 0; k < 4; ++k) {
            for (size_t byte = 0; byte < 256; ++byte) {
                for (size_t bit = 0; bit < 8; ++bit) {
                    if ((byte >> bit & 1u) != 0) tables_[k][byte] ^= of_bit[8 * k + bit];
                }
            }
        }
    }

    uint32_t operator()(uint32_t crc) const {
        return tables_[0][crc & 0xffu] ^ tables_[1][crc >> 8 & 0xffu] ^
               tables_[2][crc >> 16 & 0xffu] ^ tables_[3][crc >> 24];
    }

private:
    std::array<ByteTable, 4> tables_{};
};

uint64_t load_word(const uint8_t* p) {
    uint64_t word = 0;
    std::memcpy(&word, p, 8);
    return word;
}

// The instruction has a latency of three cycles and a throughput of one: three streams hide it.
__attribute__((target("sse4.2"))) uint32_t update_hardware(uint32_t crc, const uint8_t* p,
                                                           size_t bytes) {
    static const LaneShift shift;
    uint64_t first = crc;
    for (; bytes >= 3 * kLane; p += 3 * kLane, bytes -= 3 * kLane) {
        uint64_t second = 0;
        uint64_t third = 0;
        for (size_t i = 0; i < kLane; i += 8) {
            first = _mm_crc32_u64(first, load_word(p + i));
            second = _mm_crc32_u64(second, load_word(p + kLane + i));
            third = _mm_crc32_u64(third, load_word(p + 2 * kLane + i));
        }
        const uint32_t two = shift(static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second);
        first = shift(two) ^ static_cast<uint32_t>(third);
    }
    for (; bytes >= 8; p += 8, bytes -= 8) first = _mm_crc32_u64(first, load_word(p));
    uint32_t rest = static_cast<uint32_t>(first);
    for (; bytes > 0; ++p, --bytes) rest = _mm_crc32_u8(rest, *p);
    return rest;
}

#endif

}  // namespace

uint32_t crc32c_portable(const void* data, size_t bytes, uint32_t before) {
    return ~update_portable(~before, static_cast<const uint8_t*>(data), bytes);
}

uint32_t crc32c(const void* data, size_t bytes, uint32_t before) {
#if defined(__x86_64__)
    static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
    if (has_instruction) {
        return ~update_hardware(~before, static_cast<const uint8_t*>(data), bytes);
    }
#endif
    return crc32c_portable(data, bytes, before);
}

std::string crc_text(uint32_t crc) {
    char text[9];
    std::snprintf(text, sizeof text, "%08x", crc);
    return text;
}

uint32_t parse_crc(std::string_view text, const std::string& where) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    if (text.size() != 8 || text.find_first_not_of(kDigits) != std::string_view::npos) {
        throw Error(ExitCode::bad_data, where + ": checksum is not eight hexadecimal digits");
    }
    uint32_t crc = 0;
    for (const char c : text) crc = crc << 4 | static_cast<uint32_t>(kDigits.find(c));
    return crc;
}

}  // namespace trireme
