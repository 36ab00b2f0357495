#include "parallel/box.h"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "core/error.h"

using namespace trireme;

namespace {

// The boxes against a walk over single elements: the same elements at the same places.
void check_range(const Box& whole, int64_t padding_rows, int64_t begin, int64_t count) {
    CAPTURE(whole.begin, whole.size, padding_rows, begin, count);
    const std::vector<FlatBox> boxes = boxes_of_flat_range(whole, padding_rows, begin, count);
    CHECK(boxes.size() <= 3);
    std::vector<int64_t> owner(static_cast<size_t>(count), -1);  // row * 1000 + col of an element
    for (const FlatBox& flat : boxes) {
        REQUIRE(flat.box.elements() > 0);
        REQUIRE(contains(whole, flat.box));
        for (int64_t i = 0; i < flat.box.elements(); ++i) {
            const int64_t row = flat.box.begin[0] + i / flat.box.size[1];
            const int64_t col = flat.box.begin[1] + i % flat.box.size[1];
            int64_t& place = owner.at(static_cast<size_t>(flat.offset + i));
            REQUIRE(place == -1);
            place = row * 1000 + col;
        }
    }
    for (int64_t i = 0; i < count; ++i) {
        const int64_t at = begin + i;
        const int64_t row = whole.begin[0] + at / whole.size[1];
        const int64_t col = whole.begin[1] + at % whole.size[1];
        const int64_t expected = at < whole.elements() ? row * 1000 + col : -1;
        REQUIRE(owner[static_cast<size_t>(i)] == expected);
    }
}

}  // namespace

TEST_CASE("a flat range of a matrix is a partial row, whole rows and a partial row",
          "[parallel][box]") {
    const Box whole{{10, 100}, {4, 5}};
    const std::vector<FlatBox> boxes = boxes_of_flat_range(whole, 0, 3, 14);
    REQUIRE(boxes.size() == 3);
    CHECK(boxes[0].box == Box{{10, 103}, {1, 2}});
    CHECK(boxes[0].offset == 0);
    CHECK(boxes[1].box == Box{{11, 100}, {2, 5}});
    CHECK(boxes[1].offset == 2);
    CHECK(boxes[2].box == Box{{13, 100}, {1, 2}});
    CHECK(boxes[2].offset == 12);
}

TEST_CASE("every flat range of small parameters maps to the right elements", "[parallel][box]") {
    for (const Box& whole : {Box{{2, 3}, {3, 5}}, Box{{0, 4}, {1, 7}}, Box{{5, 0}, {6, 1}}}) {
        for (int64_t padding = 0; padding < 3; ++padding) {
            const int64_t stored = (whole.size[0] + padding) * whole.size[1];
            for (int64_t begin = 0; begin <= stored; ++begin) {
                for (int64_t count = 0; begin + count <= stored; ++count) {
                    check_range(whole, padding, begin, count);
                }
            }
        }
    }
}

TEST_CASE("padding rows and empty ranges have no boxes", "[parallel][box]") {
    const Box whole{{171, 0}, {86, 24}};
    CHECK(boxes_of_flat_range(whole, 2, 86 * 24, 48).empty());
    CHECK(boxes_of_flat_range(whole, 2, 17, 0).empty());
    CHECK(boxes_of_flat_range(whole, 2, 86 * 24 - 1, 30).size() == 1);
    CHECK_THROWS_AS(boxes_of_flat_range(whole, 2, 0, 88 * 24 + 1), InternalError);
}

TEST_CASE("the intersection of boxes holds the elements of both", "[parallel][box]") {
    std::mt19937 random(3);
    const auto below = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
    for (int i = 0; i < 500; ++i) {
        const Box a{{below(6), below(6)}, {1 + below(5), 1 + below(5)}};
        const Box b{{below(6), below(6)}, {1 + below(5), 1 + below(5)}};
        const Box both = intersect(a, b);
        CHECK(both == intersect(b, a));
        int64_t shared = 0;
        for (int64_t r = 0; r < 12; ++r) {
            for (int64_t c = 0; c < 12; ++c) {
                const Box one{{r, c}, {1, 1}};
                if (contains(a, one) && contains(b, one)) {
                    ++shared;
                    CHECK(contains(both, one));
                }
            }
        }
        CHECK(both.elements() == shared);
    }
}
