#include "parallel/schedule_drawing.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace trireme;
using Catch::Matchers::Contains;

namespace {

size_t count(const std::string& text, const std::string& part) {
    size_t found = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
        ++found;
    }
    return found;
}

// Every element opened is closed, and no stray sign opens one.
void check_nesting(const std::string& svg) {
    std::vector<std::string> open;
    for (size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
        const size_t end = svg.find('>', at);
        REQUIRE(end != std::string::npos);
        const std::string tag = svg.substr(at + 1, end - at - 1);
        if (tag.ends_with('/')) continue;
        if (tag.starts_with('/')) {
            REQUIRE_FALSE(open.empty());
            REQUIRE(open.back() == tag.substr(1));
            open.pop_back();
        } else {
            open.push_back(tag.substr(0, tag.find(' ')));
        }
    }
    REQUIRE(open.empty());
}

}  // namespace

TEST_CASE("a drawing has a box for each action, in the colour of its kind and chunk",
          "[parallel][schedule]") {
    const Simulation simulation =
        simulate(make_schedule("zb-v", 2, 2, 4), costs_of_chunk(StageCosts{}, 2));
    const std::string svg = draw_svg(spans_of(simulation), {"zb-v, 2 stages", "ms", 0.0});
    check_nesting(svg);
    REQUIRE(count(svg, "<title>") == 2 * 2 * 4 * 3);
    for (const char* kind : {"forward", "backward_input", "backward_weight"}) {
        CAPTURE(kind);
        REQUIRE(count(svg, std::string("<title>") + kind + " ") == 2 * 2 * 4);
        REQUIRE(count(svg, std::string(">") + kind + ", chunk 0</text>") == 1);
        REQUIRE(count(svg, std::string(">") + kind + ", chunk 1</text>") == 1);
    }
    // Each colour once in the legend and once for each action.
    for (const char* colour : {"#3b69b0", "#a7bcdb", "#40a6a8", "#de9b2c"}) {
        CAPTURE(colour);
        REQUIRE(count(svg, std::string("fill=\"") + colour) == 1 + 2 * 4);
    }
    REQUIRE_THAT(svg, Contains("<title>forward 0, chunk 1: 1.5 to 2</title>"));
    REQUIRE_THAT(svg, Contains(">zb-v, 2 stages</text>") && Contains(">0 ms</text>") &&
                          Contains(">rank 0</text>") && Contains(">rank 1</text>"));
}

TEST_CASE("measured spans are drawn where and as long as they are", "[parallel][schedule]") {
    const std::vector<DrawnSpan> spans{
        {0, "3", "forward", 0, 10.0, 20.0},
        {1, "a <b> & \"c\"", "waiting & more", 0, 20.0, 60.0},
        {1, "4", "forward", 0, 60.0, 60.0},
    };
    const std::string svg = draw_svg(spans, {"", "", 1000.0});
    check_nesting(svg);
    // 50 units on 1000 pixels.
    REQUIRE_THAT(svg, Contains("x=\"64.00\" y=\"28.00\" width=\"200.00\"") &&
                          Contains("x=\"264.00\" y=\"58.00\" width=\"800.00\"") &&
                          Contains("a &lt;b&gt; &amp; &quot;c&quot;"));
    // The legend in the order of time; no number where there is no room.
    REQUIRE(svg.find(">forward</text>") < svg.find(">waiting &amp; more</text>"));
    REQUIRE(count(svg, ">3</text>") == 1);
    REQUIRE(count(svg, ">4</text>") == 0);
    REQUIRE(svg.find("chunk") == std::string::npos);
    check_nesting(draw_svg({}, {}));
    check_nesting(draw_svg({{0, "0", "forward", 0, 1.0, 1.0}}, {}));
}

TEST_CASE("a simulation becomes a Chrome trace", "[parallel][schedule]") {
    const Simulation simulation = simulate(make_schedule("1f1b", 2, 1, 2), StageCosts{});
    const auto trace = nlohmann::json::parse(draw_chrome_trace(spans_of(simulation), 1000.0));
    int named = 0;
    std::vector<nlohmann::json> spans;
    for (const auto& event : trace.at("traceEvents")) {
        if (event.at("ph") == "X") spans.push_back(event);
        if (event.at("name") == "process_name") {
            REQUIRE(event.at("args").at("name") == "rank " + std::to_string(named));
            REQUIRE(event.at("pid") == named++);
        }
    }
    REQUIRE(named == 2);
    REQUIRE(spans.size() == 8);
    REQUIRE(spans[2].at("name") == "backward 0");
    REQUIRE(spans[2].at("cat") == "backward");
    REQUIRE(spans[2].at("pid") == 0);
    REQUIRE(spans[2].at("ts") == 4000.0);
    REQUIRE(spans[2].at("dur") == 2000.0);
}

TEST_CASE("a simulation is written as text", "[parallel][schedule]") {
    const Simulation simulation = simulate(make_schedule("zb-h1", 2, 1, 3), StageCosts{});
    REQUIRE(draw_text(simulation) ==
            "F0 F1    I0 W0 F2 I1 W1 I2 W2\n"
            "   F0 I0 F1 I1 W0 F2 I2 W1 W2\n");
    const std::string table = times_table(simulation);
    REQUIRE_THAT(
        table,
        Contains("    0           0          10           9           1     10.00      2\n") &&
            Contains("    1           1          10           9           1"));
    REQUIRE_THAT(table, Contains("makespan 10, longest rank 10, bubble rate 0.1000"));
}
