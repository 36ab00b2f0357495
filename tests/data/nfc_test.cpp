#include "data/nfc.h"

#include <utf8proc.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <memory>
#include <random>

#include "data/utf8.h"

namespace trireme {
namespace {

std::string normalized_whole(const std::string& text) {
    utf8proc_uint8_t* made = nullptr;
    const auto bytes =
        ::utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), std::ssize(text),
                       &made, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
    REQUIRE(bytes >= 0);
    return {reinterpret_cast<const char*>(made), static_cast<size_t>(bytes)};
}

TEST_CASE("normalizing part by part is normalizing the whole", "[data][tokenizer]") {
    // Blocks with marks that compose, decompose, reorder or stand alone.
    struct Block {
        uint32_t first, last;
    };
    const std::vector<Block> blocks = {
        {0x41, 0x5A},       {0xC0, 0x24F},      {0x300, 0x36F},     {0x370, 0x3FF},
        {0x400, 0x4FF},     {0x591, 0x6D3},     {0x900, 0xDFF},     {0xF40, 0xFBC},
        {0x1025, 0x1035},   {0x1100, 0x11FF},   {0x1B05, 0x1B44},   {0x1E00, 0x1FFF},
        {0x2126, 0x212B},   {0x226E, 0x22ED},   {0x2ADC, 0x2ADC},   {0x3041, 0x30FF},
        {0xAC00, 0xAC40},   {0xD790, 0xD7A3},   {0xF900, 0xFA6D},   {0xFB1D, 0xFB4E},
        {0x11099, 0x110BA}, {0x1112E, 0x11132}, {0x1D15E, 0x1D164}, {0x2F800, 0x2FA1D}};
    std::mt19937 random(31);
    for (int i = 0; i < 60000; ++i) {
        std::string text, storage;
        // A few blocks in a text, so that their characters meet.
        const Block& one = blocks[random() % blocks.size()];
        const Block& two = blocks[random() % blocks.size()];
        for (auto n = 1 + random() % 10; n > 0; --n) {
            const Block& from = random() % 2 == 0 ? one : two;
            append_utf8(from.first + static_cast<uint32_t>(random() % (from.last - from.first + 1)),
                        text);
        }
        if (std::string(to_nfc(text, storage)) != normalized_whole(text)) FAIL(text);
    }
    for (uint32_t c = 0; c < 0x110000; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string text = "a", storage;
        append_utf8(c, text);
        text += "\u0301";
        if (std::string(to_nfc(text, storage)) != normalized_whole(text)) FAIL(c);
    }
}

TEST_CASE("marks are put in order as in the whole", "[data][tokenizer]") {
    // Marks of several classes on one letter, with what they compose with, and Hangul.
    const std::vector<uint32_t> from = {
        'a',    'E',    0xC5,   0x1EAD, 0x300,  0x301,  0x302,   0x307,   0x308,
        0x323,  0x327,  0x328,  0x331,  0x334,  0x345,  0x34F,   0x35C,   0x5B4,
        0x5BC,  0x64B,  0x651,  0x93C,  0x94D,  0xF71,  0xF73,   0xF74,   0x302A,
        0x3099, 0x1100, 0x1161, 0x11A8, 0xAC00, 0xFB2C, 0x1D15E, 0x1D165, 0x1D16D};
    std::mt19937 random(32);
    for (int i = 0; i < 20000; ++i) {
        std::string text, storage;
        for (auto n = 1 + random() % 40; n > 0; --n)
            append_utf8(from[random() % from.size()], text);
        if (std::string(to_nfc(text, storage)) != normalized_whole(text)) FAIL(text);
    }
}

TEST_CASE("a letter with very many marks out of order is normalized at once", "[data][tokenizer]") {
    constexpr int kMarks = 200000;
    std::string text = "a", expected = "\u00e1", storage;
    for (int i = 0; i < kMarks; ++i) text += "\u0301";
    for (int i = 0; i < kMarks; ++i) text += "\u0327";
    for (int i = 0; i < kMarks; ++i) expected += "\u0327";
    for (int i = 1; i < kMarks; ++i) expected += "\u0301";
    CHECK((to_nfc(text, storage) == expected));
}

}  // namespace
}  // namespace trireme
