#include "core/random.h"

#include <array>
#include <set>

#include "core/cpu/dropout_mask.h"
#include "tests/core/test_support.h"

namespace trireme::test {

TEST_CASE("philox gives the published known answers", "[core][random]") {
    using Words = std::array<uint32_t, 4>;
    CHECK(philox({0, 0}, {0, 0, 0, 0}) ==
          Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    const uint32_t ones = 0xffffffff;
    CHECK(philox({ones, ones}, {ones, ones, ones, ones}) ==
          Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("a philox word depends on every part of its place", "[core][random]") {
    const PhiloxKey key = make_key(7, "weights");
    std::set<uint32_t> words = {philox_word(key, 0, 0),
                                philox_word(key, 0, 1),
                                philox_word(key, 1, 0),
                                philox_word(key, uint64_t{1} << 32, 0),
                                philox_word(key, 0, uint64_t{1} << 34),
                                philox_word(make_key(8, "weights"), 0, 0),
                                philox_word(make_key(7, "weight"), 0, 0),
                                philox_word(make_key(7 + (uint64_t{1} << 40), "weights"), 0, 0)};
    CHECK(words.size() == 8);
}

TEST_CASE("uniforms lie in [0, 1) and have the right mean", "[core][random]") {
    CHECK(uniform_from_bits(0) == 0.0f);
    CHECK(uniform_from_bits(0xffffffff) < 1.0f);
    double sum = 0.0;
    for (uint64_t i = 0; i < 100000; ++i) {
        sum += uniform_from_bits(philox_word(make_key(1, "u"), 3, i));
    }
    CHECK(sum / 100000 == Approx(0.5).margin(0.004));
}

TEST_CASE("normals have mean 0 and variance 1", "[core][random]") {
    const PhiloxKey key = make_key(1234, "normal");
    const int n = 100000;
    double sum = 0.0, squares = 0.0, fourth = 0.0, neighbours = 0.0, before = 0.0;
    for (int block = 0; block < n / 4; ++block) {
        for (const double x : philox_normals(key, 0, static_cast<uint64_t>(block))) {
            sum += x;
            squares += x * x;
            fourth += x * x * x * x;
            neighbours += x * before;
            before = x;
        }
    }
    // Five standard deviations of each estimate.
    CHECK(sum / n == Approx(0.0).margin(0.016));
    CHECK(squares / n == Approx(1.0).margin(0.023));
    CHECK(fourth / n == Approx(3.0).margin(0.16));
    CHECK(neighbours / n == Approx(0.0).margin(0.016));
}

TEST_CASE("a dropout tile has the factors that philox_word defines", "[core][random][dropout]") {
    const Dropout dropout{0.3f, make_key(5, "drop"), (uint64_t{3} << 32) + 9, 0};
    const int64_t count = GENERATE(1, 3, 4, 255, 256);
    // The last one crosses a carry into the upper counter word.
    const uint64_t first = GENERATE(uint64_t{0}, uint64_t{1}, uint64_t{6}, uint64_t{1000003},
                                    (uint64_t{1} << 34) - 101);
    DropoutTile tile;
    const float* factors = tile.make(dropout, first, count);
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t word =
            philox_word(dropout.key, dropout.stream, first + static_cast<uint64_t>(i));
        const float want = uniform_from_bits(word) >= 0.3f ? 1.0f / (1.0f - 0.3f) : 0.0f;
        REQUIRE(factors[i] == want);
    }
}

}  // namespace trireme::test
