#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "parallel/schedule_simulator.h"
#include "tests/parallel/plan_check.h"

using namespace trireme;

namespace {

constexpr int kMostStages = 8, kMostChunks = 4, kMostMicroBatches = 32, kMostExtraWarmup = 3;

PipelineOptions options_of(const std::string& name, int chunks, int group = 0) {
    PipelineOptions options;
    options.schedule = name;
    options.virtual_stages = chunks;
    options.micro_batch_group = group;
    return options;
}

// Seconds of a step of `micro_batches`, when a rank's layers cost this together.
double makespan(const std::string& name, int stages, int chunks, int micro_batches,
                const StageCosts& of_rank) {
    return simulate(make_schedule(name, stages, chunks, micro_batches),
                    costs_of_chunk(of_rank, chunks))
        .makespan;
}

void check_valid(const ScheduleProgram& program, const std::vector<int>& peaks, bool plans) {
    REQUIRE(find_schedule_error(program) == "");
    REQUIRE(peak_live_activations(program) == peaks);
    for (int rank = 0; plans && rank < program.stages; ++rank) check_plan(program, rank);
}

template <typename PeakOfRank>
std::vector<int> peaks_of(int stages, const PeakOfRank& peak) {
    std::vector<int> peaks;
    for (int rank = 0; rank < stages; ++rank) peaks.push_back(peak(rank));
    return peaks;
}

// All schedules whose shape follows from the sizes alone.
void check_fixed(int p, int m, bool plans) {
    CAPTURE(p, m);
    const auto check = [&](const char* name, const auto& peak) {
        CAPTURE(name);
        check_valid(make_schedule(name, p, 1, m), peaks_of(p, peak), plans);
    };
    check("gpipe", [&](int) { return m; });
    check("1f1b", [&](int r) { return std::min(m, p - r); });
    for (int more = 1; more <= kMostExtraWarmup; ++more) {
        CAPTURE(more);
        PipelineOptions options = options_of("1f1b", 1);
        options.extra_warmup = more;
        check_valid(make_schedule(options, p, m),
                    peaks_of(p, [&](int r) { return std::min(m, (p - r - 1) * (1 + more) + 1); }),
                    plans);
    }
    check("zb-h1", [&](int) { return std::min(m, p); });
    check("zb-h2", [&](int) { return std::min(m, 2 * p - 1); });

    const ScheduleProgram vee = make_schedule("zb-v", p, 2, m);
    if (m >= 2 * p - 1) {
        check_valid(vee, peaks_of(p, [&](int) { return 2 * p; }), plans);
    } else {
        const std::vector<int> peaks = peak_live_activations(vee);
        check_valid(vee, peaks, plans);
        REQUIRE(*std::max_element(peaks.begin(), peaks.end()) <= std::min(2 * m, 2 * p));
    }
}

void check_interleaved(int p, int v, int m, int group, bool plans) {
    CAPTURE(p, v, m, group);
    check_valid(
        make_schedule(options_of("interleaved", v, group), p, m),
        peaks_of(p, [&](int r) { return std::min(v * m, 2 * (p - r - 1) + (v - 1) * group + 1); }),
        plans);
}

bool group_fits(int p, int m, int group) {
    return m % group == 0 || m % group >= p;
}

}  // namespace

TEST_CASE("every schedule is valid within its memory", "[parallel][schedule]") {
    for (int p = 1; p <= kMostStages; ++p) {
        for (int m = 1; m <= kMostMicroBatches; ++m) check_fixed(p, m, m % 5 == 0);
        for (int m : {p, 2 * p, 3 * p + 1, 4 * p}) {
            for (int group = p; group <= m; group += 3) {
                if (!group_fits(p, m, group)) continue;
                for (int v = 1; v <= kMostChunks; ++v) check_interleaved(p, v, m, group, v == 2);
            }
        }
    }
}

TEST_CASE("every schedule of every small size is valid within its memory",
          "[parallel][schedule][slow]") {
    for (int p = 1; p <= kMostStages; ++p) {
        for (int m = 1; m <= kMostMicroBatches; ++m) {
            check_fixed(p, m, true);
            for (int group = p; group <= m; ++group) {
                if (!group_fits(p, m, group)) continue;
                for (int v = 1; v <= kMostChunks; ++v) check_interleaved(p, v, m, group, true);
            }
        }
    }
}

TEST_CASE("equal costs give each schedule the time that theory says", "[parallel][schedule]") {
    const StageCosts equal;
    for (int p = 1; p <= kMostStages; ++p) {
        for (int m = 1; m <= kMostMicroBatches; ++m) {
            CAPTURE(p, m);
            const double work = 3.0 * m, late = p - 1;
            REQUIRE(makespan("gpipe", p, 1, m, equal) == work + 3.0 * late);
            REQUIRE(makespan("1f1b", p, 1, m, equal) == work + 3.0 * late);
            for (int v = 1; v <= kMostChunks && m % p == 0; ++v) {
                REQUIRE(makespan("interleaved", p, v, m, equal) == Approx(work + 3.0 * late / v));
            }
            const Simulation h1 = simulate(make_schedule("zb-h1", p, 1, m), equal);
            REQUIRE(h1.makespan <= work + 3.0 * late);
            if (m >= p) REQUIRE(h1.makespan == work + late);
            const Simulation v = simulate(make_schedule("zb-v", p, 2, m), costs_of_chunk(equal, 2));
            REQUIRE(v.makespan <= h1.makespan);
            if (p > 1 && m >= p) REQUIRE(v.makespan < h1.makespan);
            if (m < 2 * p - 1) continue;
            const Simulation h2 = simulate(make_schedule("zb-h2", p, 1, m), equal);
            REQUIRE(h2.makespan == work + late);
            REQUIRE(h2.cost == work);
            REQUIRE(v.makespan == work + 0.5 * late);
            REQUIRE(v.cost == work);
        }
    }
}

TEST_CASE("1f1b with more in flight hides transfers", "[parallel][schedule]") {
    // One way as long as a forward and a backward together.
    StageCosts costs;
    costs.transfer = costs.forward + costs.backward_input + costs.backward_weight;
    const auto seconds = [&](int p, int m, int more) {
        PipelineOptions options = options_of("1f1b", 1);
        options.extra_warmup = more;
        return simulate(make_schedule(options, p, m), costs).makespan;
    };
    for (int p = 2; p <= 8; ++p) {
        CAPTURE(p);
        // What a further micro-batch takes, once under way.
        const int m = 6 * p;
        REQUIRE(seconds(p, m + p, 2) - seconds(p, m, 2) == Approx(p * costs.transfer));
        REQUIRE(seconds(p, m + p, 1) - seconds(p, m, 1) > 1.2 * p * costs.transfer);
        REQUIRE(seconds(p, m + p, 0) - seconds(p, m, 0) > 1.8 * p * costs.transfer);
    }
}

TEST_CASE("splitting the backward never costs time", "[parallel][schedule]") {
    for (const StageCosts& costs :
         {StageCosts{1.0, 1.2, 0.7, 0.1}, StageCosts{1.0, 2.0, 1.0, 0.0},
          StageCosts{1.0, 0.6, 1.3, 0.3}, StageCosts{18.522, 18.086, 9.337, 0.601}}) {
        for (int p = 1; p <= kMostStages; ++p) {
            for (int m = 1; m <= kMostMicroBatches; m += 3) {
                CAPTURE(p, m, costs.backward_weight);
                REQUIRE(makespan("zb-h1", p, 1, m, costs) <=
                        makespan("1f1b", p, 1, m, costs) * (1.0 + 1e-12));
            }
        }
    }
}

namespace {

// What zb-auto finds; checked to be valid and within its memory.
double searched_makespan(int p, int m, const StageCosts& costs, int cap) {
    CAPTURE(p, m, cap, costs.backward_weight);
    PipelineOptions options = options_of("zb-auto", 1);
    options.costs = costs;
    options.memory_cap = cap;
    const ScheduleProgram program = make_schedule(options, p, m);
    REQUIRE(find_schedule_error(program) == "");
    const std::vector<int> peaks = peak_live_activations(program);
    REQUIRE(*std::max_element(peaks.begin(), peaks.end()) <= (cap == 0 ? p : cap));
    return simulate(program, costs).makespan;
}

void check_search(int p, int m, const StageCosts& costs) {
    CAPTURE(p, m, costs.backward_weight);
    const double h1 = makespan("zb-h1", p, 1, m, costs), tolerance = 1e-9 * h1;
    double longer = searched_makespan(p, m, costs, 1);
    for (int cap : {std::max(1, p / 2), p, 2 * p - 1, 2 * p}) {
        const double found = searched_makespan(p, m, costs, cap);
        if (cap >= p) REQUIRE(found <= h1 + tolerance);
        if (cap >= 2 * p - 1) {
            REQUIRE(found <= makespan("zb-h2", p, 1, m, costs) + tolerance);
        }
        REQUIRE(found <= longer + tolerance);
        longer = found;
    }
    REQUIRE(searched_makespan(p, m, costs, 0) == searched_makespan(p, m, costs, p));
}

const StageCosts kSearched[] = {{1.0, 1.0, 1.0, 0.0}, {1.0, 1.2, 0.6, 0.1}, {1.0, 0.8, 1.2, 0.1}};

}  // namespace

TEST_CASE("a searched schedule is as good as the fixed ones that fit its memory",
          "[parallel][schedule]") {
    for (const StageCosts& costs : kSearched) {
        for (int p : {1, 2, 3, 4, 8}) {
            for (int m : {1, p, 2 * p + 1}) check_search(p, m, costs);
        }
    }
}

TEST_CASE("a searched schedule of every small size is as good as the fixed ones",
          "[parallel][schedule][slow]") {
    for (const StageCosts& costs : kSearched) {
        for (int p = 1; p <= kMostStages; ++p) {
            for (int m = 1; m <= kMostMicroBatches; ++m) check_search(p, m, costs);
        }
    }
}

TEST_CASE("more memory lets a search come to the least time there is", "[parallel][schedule]") {
    // The last rank cannot begin before (p - 1) forwards and transfers have passed.
    constexpr int p = 8, m = 32;
    const StageCosts costs{1.0, 1.0, 0.5, 0.05};
    const double least = 7 * 1.05 + 32 * 2.5;
    REQUIRE(searched_makespan(p, m, costs, 2 * p) == Approx(least));
    REQUIRE(makespan("zb-h2", p, 1, m, costs) > least + 0.3);
    REQUIRE(searched_makespan(p, m, costs, 12) < least + 2.0);
    REQUIRE(makespan("zb-h1", p, 1, m, costs) > least + 4.5);
    // With no time of their own for weight halves there is nothing to fill gaps with.
    const StageCosts no_weights{1.0, 2.0, 0.0, 0.0};
    REQUIRE(searched_makespan(4, 8, no_weights, 4) == makespan("1f1b", 4, 1, 8, no_weights));
    REQUIRE(searched_makespan(4, 8, {0.0, 1.0, 0.0, 0.0}, 4) > 0.0);
}

TEST_CASE("a search finds what only one of its rules finds", "[parallel][schedule]") {
    // Each figure is out of reach when one of the rules is left out.
    REQUIRE(searched_makespan(6, 24, {1.0, 2.0, 1.3, 0.4}, 3) <= 201.001);
    REQUIRE(searched_makespan(6, 24, {1.0, 0.6, 1.0, 0.1}, 5) <= 72.001);
    REQUIRE(searched_makespan(8, 32, {1.0, 1.0, 1.0, 0.1}, 4) <= 165.201);
}
