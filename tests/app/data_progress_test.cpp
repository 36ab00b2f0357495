#include "app/data_progress.h"

#include <catch2/catch.hpp>

#include "app/checkpoint_keys.h"

namespace trireme::test {

namespace {

struct Checkpoint {
    DataProgress::Point point;
    std::map<std::string, std::string> extra;
};

Checkpoint checkpoint_at(int64_t step, const DataProgress& progress) {
    return {{step, progress.samples_after(step), progress.tokens_after(step)},
            {{checkpoint_keys::kDataProgress, progress.text()}}};
}

DataProgress resumed(const Checkpoint& checkpoint, int64_t batch, int64_t length) {
    DataProgress progress(batch, length);
    progress.go_on_from(checkpoint.point, checkpoint.extra);
    return progress;
}

}  // namespace

TEST_CASE("samples and tokens of past steps stay what they were, however often a run is resumed",
          "[app][resume]") {
    const DataProgress first(4, 16);
    CHECK(first.samples_after(10) == 40);
    CHECK(first.tokens_after(10) == 640);
    CHECK(first.is_even());
    const DataProgress second = resumed(checkpoint_at(10, first), 8, 16);
    CHECK(second.samples_after(5) == 20);
    CHECK(second.samples_after(10) == 40);
    CHECK(second.samples_after(20) == 120);
    CHECK_FALSE(second.is_even());
    // Nothing changes, at two more steps.
    const DataProgress third =
        resumed(checkpoint_at(17, resumed(checkpoint_at(13, second), 8, 16)), 8, 16);
    const DataProgress last = resumed(checkpoint_at(20, third), 2, 32);
    for (int64_t step = 0; step <= 20; ++step) {
        INFO(step);
        CHECK(third.samples_after(step) == second.samples_after(step));
        CHECK(third.tokens_after(step) == second.tokens_after(step));
        CHECK(last.samples_after(step) == second.samples_after(step));
        CHECK(last.tokens_after(step) == second.tokens_after(step));
    }
    CHECK(last.samples_after(22) == 124);
    CHECK(last.tokens_after(22) == 120 * 16 + 4 * 32);
    // Only where something changed.
    CHECK(last.text() == "[[0,0,0],[10,40,640],[20,120,1920]]");
    CHECK(resumed(checkpoint_at(7, resumed(checkpoint_at(3, first), 4, 16)), 4, 16).is_even());
}

TEST_CASE("a run that is saved where it began goes on as it did", "[app][resume]") {
    const DataProgress first(4, 16);
    const DataProgress begun = resumed(checkpoint_at(0, first), 8, 16);
    CHECK(begun.samples_after(3) == 24);
    CHECK(begun.is_even());
    const DataProgress second = resumed(checkpoint_at(10, begun), 2, 16);
    const DataProgress again = resumed(checkpoint_at(10, second), 4, 16);
    CHECK(again.samples_after(5) == 40);
    CHECK(again.samples_after(11) == 84);
    CHECK(again.text() == second.text());
}

TEST_CASE("the steps of a checkpoint that says nothing of them, or nothing true, count as equal",
          "[app][resume]") {
    Checkpoint checkpoint{{10, 60, 960}, {}};
    const auto check = [&] {
        const DataProgress progress = resumed(checkpoint, 8, 16);
        CHECK(progress.samples_after(5) == 30);
        CHECK(progress.tokens_after(5) == 480);
        CHECK(progress.samples_after(12) == 76);
        CHECK(progress.tokens_after(12) == 960 + 256);
    };
    check();
    for (const char* text :
         {"", "x", "{}", "[]", "[[]]", "[[0,0]]", "[7]", "[[0,0,\"\"]]", "[[3,1,1]]",
          "[[0,0,0],[5,61,10]]", "[[0,0,0],[11,20,20]]", "[[0,0,0],[4,3,3],[4,4,4]]",
          "[[0,9,9],[5,3,9]]", "[[-1,0,0],[0,0,0]]"}) {
        INFO(text);
        checkpoint.extra[checkpoint_keys::kDataProgress] = text;
        check();
    }
}

}  // namespace trireme::test
