#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/gpu/gpu_ranks.h"
#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

// A vector and a sum of it, which work adds to.
struct Sums {
    Array<float> values{gpu(), {1.0f, 2.0f, 3.0f}};
    Array<float> total{gpu(), {0.0f, 0.0f, 0.0f}};

    // What is recorded must have been done before: its kernel is loaded then.
    Sums() {
        add();
        total.upload({0.0f, 0.0f, 0.0f});
    }
    void add() { gpu().ops().add(gpu().compute(), values.get(), total.get()); }
    std::vector<float> get() const { return total.download(); }
};

}  // namespace

TEST_CASE("recorded work is done when it is enqueued, each time anew", "[gpu][graph]") {
    Sums sums;
    Stream& stream = gpu().compute();
    const auto work = stream.record_work([&] {
        sums.add();
        gpu().ops().add(stream, sums.total.get(), sums.values.get());
    });
    REQUIRE(work);
    CHECK(sums.get() == std::vector<float>{0, 0, 0});
    work->enqueue();
    CHECK(sums.get() == std::vector<float>{1, 2, 3});
    CHECK(sums.values.download() == std::vector<float>{2, 4, 6});
    work->enqueue();
    work->enqueue();
    CHECK(sums.get() == std::vector<float>{8, 16, 24});
}

TEST_CASE("recorded work reads its memory when it is done, not when it is recorded",
          "[gpu][graph]") {
    Sums sums;
    const auto work = gpu().compute().record_work([&] { sums.add(); });
    sums.values.upload({5, 6, 7});
    work->enqueue();
    sums.values.upload({1, 1, 1});
    work->enqueue();
    CHECK(sums.get() == std::vector<float>{6, 7, 8});
}

TEST_CASE("work that cannot be recorded is reported, not done, and the stream works on",
          "[gpu][graph]") {
    Sums sums;
    Stream& stream = gpu().compute();
    const auto refused = [&](const std::function<void()>& what) {
        CHECK_THROWS_AS(stream.record_work([&] {
            sums.add();
            what();
        }),
                        Error);
        CHECK(sums.get() == std::vector<float>{0, 0, 0});
    };
    refused([&] { stream.synchronize(); });
    refused([&] { gpu().allocate(1000, "test"); });
    refused([] { throw InternalError("of its own"); });
    stream.record_work([&] { sums.add(); })->enqueue();
    CHECK(sums.get() == std::vector<float>{1, 2, 3});
}

TEST_CASE("recorded work may be forgotten while it is under way", "[gpu][graph]") {
    Sums sums;
    {
        const auto work = gpu().compute().record_work([&] { sums.add(); });
        for (int i = 0; i < 100; ++i) work->enqueue();
    }
    CHECK(sums.get() == std::vector<float>{100, 200, 300});
}

}  // namespace trireme::test
