#include "parallel/schedule_simulator.h"

#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "tests/parallel/sample_programs.h"

using namespace trireme;

namespace {

constexpr ActionKind F = ActionKind::forward, B = ActionKind::backward;
constexpr ActionKind I = ActionKind::backward_input, W = ActionKind::backward_weight;

// One row of zero_bubble_rates.csv.
struct PublishedRates {
    std::string model;
    int stages = 0, micro_batches = 0;
    StageCosts costs;
    std::string one_f_one_b, interleaved, h1, h2;

    int chunks() const {  // of the interleaved runs: layers and 2, divided by the stages
        if (model == "6.2B") return 4;
        return model == "28.3B" ? 2 : 3;
    }
};

std::vector<PublishedRates> published_rates() {
    std::ifstream file(TRIREME_SOURCE_DIR "/tests/parallel/zero_bubble_rates.csv");
    std::vector<PublishedRates> rows;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line[0] == '#' || line.starts_with("model")) continue;
        std::vector<std::string> cells;
        std::istringstream rest(line);
        for (std::string cell; std::getline(rest, cell, ',');) cells.push_back(cell);
        REQUIRE(cells.size() == 11);
        rows.push_back(
            {cells[0],
             std::stoi(cells[1]),
             std::stoi(cells[2]),
             {std::stod(cells[3]), std::stod(cells[4]), std::stod(cells[5]), std::stod(cells[6])},
             cells[7],
             cells[8],
             cells[9],
             cells[10]});
    }
    return rows;
}

std::string four_decimals(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4f", value);
    return text;
}

}  // namespace

TEST_CASE("simulated bubble rates are those that the Zero Bubble paper printed",
          "[parallel][schedule]") {
    const std::vector<PublishedRates> rows = published_rates();
    REQUIRE(rows.size() == 12);
    for (const PublishedRates& row : rows) {
        CAPTURE(row.model, row.micro_batches);
        const auto rate = [&](const char* name, int chunks) {
            return simulate(make_schedule(name, row.stages, chunks, row.micro_batches),
                            costs_of_chunk(row.costs, chunks))
                .bubble_rate;
        };
        CHECK(four_decimals(rate("1f1b", 1)) == row.one_f_one_b);
        CHECK(four_decimals(rate("zb-h1", 1)) == row.h1);
        CHECK(four_decimals(rate("zb-h2", 1)) == row.h2);
        // Their interleaved runs hid a part of the transfers.
        const double above = rate("interleaved", row.chunks()) - std::stod(row.interleaved);
        CHECK(above > 0.0);
        CHECK(above < 0.004);
    }
}

TEST_CASE("each action begins when its rank is free and its input is there",
          "[parallel][schedule]") {
    // Two stages, two micro-batches.
    ScheduleProgram program{2, 1, 2, Placement::loop, {}};
    program.ranks = {{{F, 0, 0}, {F, 0, 1}, {B, 0, 0}, {B, 0, 1}},
                     {{F, 0, 0}, {I, 0, 0}, {F, 0, 1}, {W, 0, 0}, {I, 0, 1}, {W, 0, 1}}};
    REQUIRE(find_schedule_error(program) == "");
    const Simulation result = simulate(program, {1.0, 2.0, 4.0, 0.5});

    const auto times = [&](size_t rank) {
        std::vector<std::pair<double, double>> pairs;
        for (const auto& timed : result.actions[rank]) pairs.emplace_back(timed.begin, timed.end);
        return pairs;
    };
    using Times = std::vector<std::pair<double, double>>;
    REQUIRE(times(1) ==
            Times{{1.5, 2.5}, {2.5, 4.5}, {4.5, 5.5}, {5.5, 9.5}, {9.5, 11.5}, {11.5, 15.5}});
    REQUIRE(times(0) == Times{{0.0, 1.0}, {1.0, 2.0}, {5.0, 11.0}, {12.0, 18.0}});
    REQUIRE(result.actions[1][3].action == Action{W, 0, 0});

    REQUIRE(result.makespan == 18.0);
    REQUIRE(result.ranks[0].busy == 14.0);
    REQUIRE(result.ranks[0].bubble == 4.0);
    REQUIRE(result.ranks[0].first_begin == 0.0);
    REQUIRE(result.ranks[0].last_end == 18.0);
    REQUIRE(result.ranks[0].peak_activations == 2);
    REQUIRE(result.ranks[1].busy == 14.0);
    REQUIRE(result.ranks[1].bubble == 4.0);
    REQUIRE(result.ranks[1].first_begin == 1.5);
    REQUIRE(result.ranks[1].last_end == 15.5);
    REQUIRE(result.ranks[1].peak_activations == 2);
    REQUIRE(result.cost == 18.0);
    REQUIRE(result.bubble_rate == Approx(4.0 / 18.0));
}

TEST_CASE("the longest rank counts from its own first action", "[parallel][schedule]") {
    ScheduleProgram program{2, 1, 1, Placement::loop, {}};
    program.ranks = {{{F, 0, 0}, {B, 0, 0}}, {{F, 0, 0}, {I, 0, 0}, {W, 0, 0}}};
    const Simulation result = simulate(program, {1.0, 1.0, 6.0, 0.0});
    REQUIRE(result.makespan == 10.0);  // forward, forward, input half, whole backward
    REQUIRE(result.cost == 10.0);
    const Simulation light = simulate(
        program,
        [](int rank, const Action& action) {
            if (rank == 0) return action.kind == F ? 3.0 : 1.0;
            return action.kind == W ? 6.0 : 1.0;
        },
        0.0);
    REQUIRE(light.makespan == 11.0);
    REQUIRE(light.cost == 8.0);  // rank 1, from 3 to 11
    REQUIRE(light.bubble_rate == Approx((8.0 - 0.5 * (4.0 + 8.0)) / 8.0));
}

TEST_CASE("measured times take the place of costs, action by action", "[parallel][schedule]") {
    const ScheduleProgram program = make_schedule("1f1b", 2, 1, 3);
    const double even = simulate(program, StageCosts{}).makespan;
    REQUIRE(even == 12.0);
    const auto with_hitch = [](int rank, const Action& action) {
        const bool hitch = rank == 1 && action == Action{F, 0, 1};
        return duration_of(action.kind, {}) + (hitch ? 0.25 : 0.0);
    };
    REQUIRE(simulate(program, with_hitch, 0.0).makespan == even + 0.25);
}

TEST_CASE("chunks on one rank hand over in no time", "[parallel][schedule]") {
    // As a vee, stages 0 and 3 are on rank 0, 1 and 2 on rank 1.
    const StageCosts costs{1.0, 1.0, 1.0, 10.0};
    const double forward = 4.0 + 2 * 10.0, back = 8.0 + 2 * 10.0;
    const auto makespan = [&](int stages, Placement placement) {
        return simulate(depth_first_program(stages, 2, 1, placement), costs).makespan;
    };
    REQUIRE(makespan(2, Placement::vee) == forward + back);
    REQUIRE(makespan(2, Placement::loop) == forward + back + 2 * 10.0);
    REQUIRE(makespan(1, Placement::loop) == 4.0 / 2 + 8.0 / 2);
}

TEST_CASE("a rank's costs are shared out to its chunks", "[parallel][schedule]") {
    const StageCosts half = costs_of_chunk({1.0, 2.0, 3.0, 4.0}, 2);
    REQUIRE(half.forward == 0.5);
    REQUIRE(half.backward_input == 1.0);
    REQUIRE(half.backward_weight == 1.5);
    REQUIRE(half.transfer == 4.0);
    REQUIRE(duration_of(B, half) == 2.5);
}
