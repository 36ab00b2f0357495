#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "model/parameter_store.h"

namespace trireme::test {

TEST_CASE("initial values do not depend on who computes them", "[initial_values]") {
    ParameterSpec spec;
    spec.name = "weight";
    spec.global = {407, 333};
    spec.box = {{100, 33}, {307, 257}};
    spec.init_std = 0.02f;
    const int64_t count = spec.box.elements();
    std::vector<float> alone(static_cast<size_t>(count));
    ParameterStore::initial_values(spec, 7, 0, count, alone.data(), 1);
    CHECK(alone.front() != alone.back());
    SECTION("on several threads") {
        std::vector<float> together(alone.size());
        ParameterStore::initial_values(spec, 7, 0, count, together.data(), 3);
        CHECK(together == alone);
    }
    SECTION("in pieces") {
        const int64_t begin = 40001;
        std::vector<float> piece(20003);
        ParameterStore::initial_values(spec, 7, begin, 20003, piece.data(), 2);
        CHECK(std::equal(piece.begin(), piece.end(), alone.begin() + begin));
    }
}

}  // namespace trireme::test
