#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "core/cpu/attention_block.h"
#include "core/cpu/attention_dropout.h"
#include "core/random.h"

using namespace trireme;

TEST_CASE("dropout factors are Philox words at any alignment, with mean one",
          "[core][attention][random]") {
    const PhiloxKey key = make_key(1, "factors");
    double sum = 0;
    int64_t wrong = 0;
    constexpr int kRows = 400;
    for (int r = 0; r < kRows; ++r) {
        // Also across the point where the block number needs its second word.
        const uint64_t first = (uint64_t{1} << 34) - 20000 + static_cast<uint64_t>(r) * 101;
        std::vector<float> factors(64);
        dropout_factors<64>(key, 9, first, 0.25f, factors.data());
        for (uint64_t j = 0; j < 64; ++j) {
            const bool keep = uniform_from_bits(philox_word(key, 9, first + j)) >= 0.25f;
            wrong += factors[j] != (keep ? 1.0f / 0.75f : 0.0f);
            sum += double(factors[j]);
        }
    }
    CHECK(wrong == 0);
    // Standard deviation of a factor: sqrt(p / (1 - p)) = 0.577; five of the mean's.
    CHECK(sum / (kRows * 64) == Approx(1.0).margin(5 * 0.577 / std::sqrt(kRows * 64.0)));
}

TEST_CASE("block products of every remainder equal a plain product", "[core][attention]") {
    std::mt19937 random(12);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    int64_t cases = 0, wrong = 0;
    for (int64_t m = 1; m <= 29; ++m) {
        for (int64_t vectors = 1; vectors <= 9; ++vectors) {
            const int64_t n = vectors * kLanes, k = 5;
            const bool transposed = (m + vectors) % 2 == 0, add = m % 3 == 0;
            std::vector<float> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(k * n));
            std::vector<float> c(static_cast<size_t>(m * n), 0.5f);
            for (float& x : a) x = uniform(random);
            for (float& x : b) x = uniform(random);
            const int64_t a_row = transposed ? 1 : k, a_col = transposed ? m : 1;
            multiply({m, n, k, a.data(), a_row, a_col, b.data(), n, c.data(), n, add});
            for (int64_t i = 0; i < m; ++i) {
                for (int64_t j = 0; j < n; ++j) {
                    double sum = add ? 0.5 : 0.0;
                    for (int64_t l = 0; l < k; ++l) {
                        sum += double(a[static_cast<size_t>(i * a_row + l * a_col)]) *
                               double(b[static_cast<size_t>(l * n + j)]);
                    }
                    wrong += std::abs(double(c[static_cast<size_t>(i * n + j)]) - sum) > 1e-6;
                    ++cases;
                }
            }
        }
    }
    CHECK(cases > 0);
    CHECK(wrong == 0);
}
