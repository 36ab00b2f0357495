#include <catch2/catch.hpp>

#include "tests/parallel/overlap_cases.h"

// Overlap in steps that sleep instead of computing; scripts/bench-overlap measures it in earnest.
// The bounds leave room for a busy machine: without any overlap, together is compute and
// communication one after the other.

namespace trireme::testing {

namespace {

void require_overlap(const OverlapCase& one, double most) {
    OverlapTimes times;
    // Sleeps on a busy machine last longer than they should, now and then.
    for (int attempt = 0; attempt < 3; ++attempt) {
        times = measure(one, 1);
        if (times.together < most * (times.compute + times.communication)) return;
    }
    INFO(one.name << ": compute " << times.compute << " s, communication " << times.communication
                  << " s, together " << times.together << " s");
    CHECK(times.together < most * (times.compute + times.communication));
}

}  // namespace

TEST_CASE("gradients travel behind the backward pass", "[parallel][overlap]") {
    require_overlap(gradient_case(2.0), 0.8);
}

TEST_CASE("activations and gradients travel behind the other micro-batches' compute",
          "[parallel][overlap][long]") {
    require_overlap(schedule_case("gpipe", 1, 2.0), 0.8);
    require_overlap(schedule_case("1f1b", 1, 2.0, 2), 0.8);
}

}  // namespace trireme::testing
