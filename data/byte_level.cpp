#include "data/byte_level.h"

#include <array>

#include "data/utf8.h"

namespace trireme {
namespace {

constexpr uint32_t kFirstStandIn = 0x100;
constexpr uint32_t kStandIns = 68;

constexpr bool is_itself(uint32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The bytes that are not written as themselves, in order.
constexpr std::array<uint8_t, kStandIns> make_others() {
    std::array<uint8_t, kStandIns> others{};
    size_t n = 0;
    for (uint32_t byte = 0; byte < 256; ++byte) {
        if (!is_itself(byte)) others[n++] = static_cast<uint8_t>(byte);
    }
    return others;
}
constexpr std::array<uint8_t, kStandIns> kOthers = make_others();

}  // namespace

std::string byte_level_of(std::string_view bytes) {
    std::string text;
    for (const char c : bytes) {
        const auto byte = static_cast<uint8_t>(c);
        uint32_t code_point = byte;
        if (!is_itself(byte)) {
            code_point = kFirstStandIn;
            while (kOthers[code_point - kFirstStandIn] != byte) ++code_point;
        }
        append_utf8(code_point, text);
    }
    return text;
}

std::optional<std::string> bytes_of_byte_level(std::string_view text) {
    std::string bytes;
    for (size_t at = 0; at < text.size();) {
        const uint32_t code_point = next_code_point(text, at);
        if (code_point < 256 && is_itself(code_point)) {
            bytes.push_back(static_cast<char>(code_point));
        } else if (code_point >= kFirstStandIn && code_point < kFirstStandIn + kStandIns) {
            bytes.push_back(static_cast<char>(kOthers[code_point - kFirstStandIn]));
        } else {
            return std::nullopt;
        }
    }
    return bytes;
}

}  // namespace trireme
