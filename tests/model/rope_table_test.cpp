#include <catch2/catch.hpp>

#include <cmath>
#include <numbers>

#include "model/rope_table.h"

namespace trireme::test {

namespace {

ModelOptions model_with(const RopeScaling& scaling) {
    ModelOptions model;
    model.head_dim = 64;
    model.rope_theta = 500000.0f;
    model.rope_scaling = scaling;
    return model;
}

}  // namespace

TEST_CASE("linear RoPE scaling slows every pair down by the factor", "[model][rope]") {
    const auto plain = rope_frequencies(model_with({}));
    const auto scaled =
        rope_frequencies(model_with({.kind = RopeScalingKind::linear, .factor = 4.0}));
    REQUIRE(plain.size() == 32);
    for (size_t i = 0; i < plain.size(); ++i) {
        CHECK(plain[i] == Approx(std::pow(500000.0, -2.0 * static_cast<double>(i) / 64)));
        CHECK(scaled[i] == Approx(plain[i] / 4.0));
    }
}

TEST_CASE("Llama 3 RoPE scaling leaves fast pairs, stretches slow ones and fades between them",
          "[model][rope]") {
    const RopeScaling scaling{.kind = RopeScalingKind::llama3,
                              .factor = 8.0,
                              .low_freq_factor = 1.0,
                              .high_freq_factor = 4.0,
                              .original_max_position = 8192};
    const auto plain = rope_frequencies(model_with({}));
    const auto scaled = rope_frequencies(model_with(scaling));
    int fast = 0, slow = 0, between = 0;
    for (size_t i = 0; i < plain.size(); ++i) {
        const double wavelength = 2.0 * std::numbers::pi / plain[i];
        if (wavelength < 8192.0 / 4.0) {
            CHECK(scaled[i] == plain[i]);
            ++fast;
        } else if (wavelength > 8192.0) {
            CHECK(scaled[i] == Approx(plain[i] / 8.0));
            ++slow;
        } else {
            CHECK(scaled[i] < plain[i]);
            CHECK(scaled[i] > plain[i] / 8.0);
            ++between;
        }
        if (i > 0) CHECK(scaled[i] < scaled[i - 1]);
    }
    CHECK(fast > 0);
    CHECK(slow > 0);
    CHECK(between > 0);
}

TEST_CASE("the table holds cosines and sines of every position", "[model][rope]") {
    ModelOptions model = model_with({.kind = RopeScalingKind::linear, .factor = 2.0});
    model.head_dim = 6;
    const auto frequencies = rope_frequencies(model);
    const auto table = make_rope_table(model, 5);
    REQUIRE(table.size() == 5 * 2 * 3);
    for (size_t t = 0; t < 5; ++t) {
        for (size_t i = 0; i < 3; ++i) {
            const double angle = static_cast<double>(t) * frequencies[i];
            CHECK(table[2 * t * 3 + i] == Approx(std::cos(angle)));
            CHECK(table[(2 * t + 1) * 3 + i] == Approx(std::sin(angle)));
        }
    }
}

}  // namespace trireme::test
