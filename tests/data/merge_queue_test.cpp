#include "data/merge_queue.h"

#include <catch2/catch.hpp>
#include <random>
#include <set>

namespace trireme {
namespace {

TEST_CASE("a merge queue gives the least key, in whatever order they come", "[data][tokenizer]") {
    std::mt19937 random(4);
    for (int round = 0; round < 40; ++round) {
        MergeQueue queue(8);
        std::multiset<uint64_t> expected;
        const uint64_t n_merges = round % 4 == 0 ? 3 : 1000;
        uint64_t place = 0;
        for (int i = 0; i < 2000; ++i) {
            if (random() % 5 < 3) {
                // Half of the time in a row, as in runs of one character.
                place = round % 2 == 0 ? (place + 1) % 256 : random() % 256;
                const uint64_t key = random() % n_merges << 8 | place;
                queue.push(key);
                expected.insert(key);
                continue;
            }
            const uint64_t least = expected.empty() ? UINT64_MAX : *expected.begin();
            if (queue.pop() != least) FAIL("not the least key");
            if (!expected.empty()) expected.erase(expected.begin());
        }
        for (const uint64_t key : expected) {
            if (queue.pop() != key) FAIL("not the least key at the end");
        }
        CHECK(queue.pop() == UINT64_MAX);
    }
}

}  // namespace
}  // namespace trireme
