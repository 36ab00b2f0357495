#include "core/crc32c.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

using namespace trireme;

namespace {

std::vector<uint8_t> noise(size_t bytes) {
    std::vector<uint8_t> data(bytes);
    uint32_t x = 12345;
    for (uint8_t& byte : data) {
        x = x * 1664525u + 1013904223u;
        byte = static_cast<uint8_t>(x >> 24);
    }
    return data;
}

}  // namespace

TEST_CASE("crc32c gives the checksums of RFC 3720", "[core][crc32c]") {
    const std::vector<uint8_t> zeros(32, 0);
    const std::vector<uint8_t> ones(32, 0xff);
    std::vector<uint8_t> rising(32);
    for (size_t i = 0; i < 32; ++i) rising[i] = static_cast<uint8_t>(i);
    const std::string digits = "123456789";
    for (const auto f : {&crc32c, &crc32c_portable}) {
        CHECK(f(zeros.data(), 32, 0) == 0x8a9136aau);
        CHECK(f(ones.data(), 32, 0) == 0x62a8ab43u);
        CHECK(f(rising.data(), 32, 0) == 0x46dd794eu);
        CHECK(f(digits.data(), 9, 0) == 0xe3069283u);
        CHECK(f(nullptr, 0, 0) == 0u);
    }
}

TEST_CASE("crc32c with and without special instructions agree at every length and alignment",
          "[core][crc32c]") {
    const std::vector<uint8_t> data = noise(60000);
    for (const size_t bytes : {1, 7, 8, 9, 4095, 12287, 12288, 12289, 24577, 40001, 59990}) {
        for (size_t offset = 0; offset < 9; ++offset) {
            CAPTURE(bytes, offset);
            CHECK(crc32c(data.data() + offset, bytes, 77) ==
                  crc32c_portable(data.data() + offset, bytes, 77));
        }
    }
}

TEST_CASE("crc32c can be continued at any point", "[core][crc32c]") {
    const std::vector<uint8_t> data = noise(30011);
    const uint32_t whole = crc32c(data.data(), data.size());
    for (const size_t cut : {0, 1, 13, 12288, 12301, 30010, 30011}) {
        CAPTURE(cut);
        CHECK(crc32c(data.data() + cut, data.size() - cut, crc32c(data.data(), cut)) == whole);
    }
}

TEST_CASE("a checksum's text reads back to it, and nothing else is read", "[core][crc32c]") {
    for (const uint32_t crc : {0u, 1u, 0x0a1b2c3du, 0xffffffffu}) {
        CHECK(parse_crc(crc_text(crc), "x") == crc);
    }
    CHECK(crc_text(0xe3069283u) == "e3069283");
    for (const char* text : {"", "e306928", "e30692833", "E3069283", "0xe30692", "e306928g"}) {
        CAPTURE(text);
        CHECK_THROWS_AS(parse_crc(text, "x"), Error);
    }
}
