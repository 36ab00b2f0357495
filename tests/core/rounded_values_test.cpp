#include "core/rounded_values.h"

#include <catch2/catch.hpp>
#include <cstring>

using namespace trireme;

TEST_CASE("values are the same bytes in bf16 whatever the number of threads", "[core]") {
    std::vector<float> values(40'001);
    for (size_t i = 0; i < values.size(); ++i) values[i] = 1.0f / static_cast<float>(i + 1);
    for (const int threads : {1, 3}) {
        std::vector<bf16> room;
        const auto bytes = bytes_in(DType::bf16, values, room, threads);
        REQUIRE(bytes.size() == 2 * values.size());
        size_t differing = 0;
        for (size_t i = 0; i < values.size(); ++i) {
            uint16_t bits = 0;
            std::memcpy(&bits, bytes.data() + 2 * i, 2);
            if (bits != bf16(values[i]).bits) ++differing;
        }
        CHECK(differing == 0);
    }
}

TEST_CASE("values as f32 are not copied", "[core]") {
    const std::vector<float> values{1.0f, -2.5f};
    std::vector<bf16> room;
    const auto bytes = bytes_in(DType::f32, values, room);
    CHECK(static_cast<const void*>(bytes.data()) == values.data());
    CHECK(bytes.size() == 8);
}
