#pragma once

#include <string>
#include <vector>

#include "parallel/schedule_simulator.h"

namespace trireme {

// A piece of time on one rank, simulated or measured.
struct DrawnSpan {
    int rank = 0;
    std::string name;  // written into its box where there is room
    std::string kind;  // decides the colour; those of ActionKind have colours of their own
    int chunk = 0;     // decides the shade
    double begin = 0.0;
    double end = 0.0;
};

// Named by their micro-batch.
std::vector<DrawnSpan> spans_of(const Simulation& simulation);

struct DrawingStyle {
    std::string title;
    std::string time_unit;     // for the axis: "ms"
    double pixels_wide = 0.0;  // of the time axis, at least; 0: what the shortest spans need
};

// A row for each rank, an axis, and a legend of the kinds in the order in which they begin. Times
// are drawn as they are given, from the earliest begin on.
std::string draw_svg(const std::vector<DrawnSpan>& spans, const DrawingStyle& style);

// The same as a Chrome trace, for Perfetto or chrome://tracing: process = rank.
std::string draw_chrome_trace(const std::vector<DrawnSpan>& spans, double microseconds_per_unit);

// A line for each rank: its times, how much of the makespan it idles, its peak of activations.
std::string times_table(const Simulation& simulation);

// A line for each rank and a column for each length of the shortest action, with actions written as
// in a schedule file where they begin. Exact where all lengths are multiples of the shortest.
std::string draw_text(const Simulation& simulation);

}  // namespace trireme
