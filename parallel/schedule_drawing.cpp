#include "parallel/schedule_drawing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "core/format_number.h"
#include "parallel/schedule_file.h"

namespace trireme {

namespace {

constexpr double kRowHeight = 26.0, kRowGap = 4.0, kFontSize = 12.0;
constexpr double kLeft = 64.0, kRight = 24.0, kLegendHeight = 28.0, kTitleHeight = 26.0;
constexpr double kAxisHeight = 34.0;
constexpr double kCharacterWidth = 0.6 * kFontSize;

struct Colour {
    int red = 0, green = 0, blue = 0;
};

// Told apart by colour-blind readers as well.
const std::map<std::string, Colour> kColours{
    {name_of(ActionKind::forward), {59, 105, 176}},
    {name_of(ActionKind::backward), {35, 134, 98}},
    {name_of(ActionKind::backward_input), {64, 166, 168}},
    {name_of(ActionKind::backward_weight), {222, 155, 44}},
};
constexpr std::array<Colour, 4> kOtherColours{
    {{136, 96, 160}, {190, 82, 92}, {120, 120, 120}, {150, 130, 70}}};

std::string pixels(double value) {
    return format_number("%.2f", value);
}
std::string short_number(double value) {
    return format_number("%.6g", value);
}

std::string escaped(const std::string& text) {
    std::string result;
    for (const char c : text) {
        switch (c) {
            case '&':
                result += "&amp;";
                break;
            case '<':
                result += "&lt;";
                break;
            case '>':
                result += "&gt;";
                break;
            case '"':
                result += "&quot;";
                break;
            default:
                result += c;
        }
    }
    return result;
}

std::string svg_text(double x, double y, const char* attributes, const std::string& text) {
    return "<text x=\"" + pixels(x) + "\" y=\"" + pixels(y) + "\" " + attributes + ">" +
           escaped(text) + "</text>\n";
}

// The nearest of 1, 2, 5, 10, 20, ... above a length.
double round_step(double least) {
    const double power = std::pow(10.0, std::floor(std::log10(least)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor * power >= least) return factor * power;
    }
    return 10.0 * power;
}

class SvgDrawing {
public:
    SvgDrawing(const std::vector<DrawnSpan>& spans, const DrawingStyle& style)
        : spans_(spans), style_(style) {
        double shortest = std::numeric_limits<double>::infinity();
        begin_ = shortest;
        double end = -shortest;
        for (const DrawnSpan& span : spans) {
            rows_ = std::max(rows_, span.rank + 1);
            begin_ = std::min(begin_, span.begin);
            end = std::max(end, span.end);
            if (span.end > span.begin) shortest = std::min(shortest, span.end - span.begin);
        }
        if (spans.empty()) begin_ = end = 0.0;
        length_ = end > begin_ ? end - begin_ : 1.0;
        constexpr double kLeast = 640.0, kMost = 6000.0, kShortestSpan = 22.0;
        width_ = style.pixels_wide > 0.0
                     ? style.pixels_wide
                     : std::clamp(kShortestSpan * length_ / shortest, kLeast, kMost);
        top_ = kLegendHeight + (style.title.empty() ? 0.0 : kTitleHeight);
        collect_kinds();
        width_ = std::max(width_, legend_width());
    }

    std::string draw() {
        const double bottom = top_ + rows_ * (kRowHeight + kRowGap);
        const std::string size[] = {pixels(kLeft + width_ + kRight), pixels(bottom + kAxisHeight)};
        svg_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + size[0] + "\" height=\"" +
               size[1] + "\" viewBox=\"0 0 " + size[0] + " " + size[1] +
               "\" font-family=\"sans-serif\" font-size=\"" + short_number(kFontSize) + "\">\n" +
               "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
        if (!style_.title.empty()) {
            svg_ += svg_text(kLeft, 18.0, "font-size=\"15\" font-weight=\"bold\"", style_.title);
        }
        draw_legend();
        draw_axis(bottom);
        for (int row = 0; row < rows_; ++row) {
            svg_ += svg_text(kLeft - 8.0, text_line(row), "text-anchor=\"end\"",
                             "rank " + std::to_string(row));
            svg_ += "<rect x=\"" + pixels(kLeft) + "\" y=\"" + pixels(row_top(row)) +
                    "\" width=\"" + pixels(width_) + "\" height=\"" + pixels(kRowHeight) +
                    "\" fill=\"#efefef\"/>\n";
        }
        for (const DrawnSpan& span : spans_) draw_span(span);
        return std::move(svg_) + "</svg>\n";
    }

private:
    void collect_kinds() {
        std::vector<const DrawnSpan*> in_time;
        for (const DrawnSpan& span : spans_) in_time.push_back(&span);
        std::stable_sort(in_time.begin(), in_time.end(),
                         [](const auto* a, const auto* b) { return a->begin < b->begin; });
        size_t others = 0;
        for (const DrawnSpan* span : in_time) {
            most_chunk_ = std::max(most_chunk_, span->chunk);
            if (!colours_.contains(span->kind)) {
                kinds_.push_back(span->kind);
                const auto known = kColours.find(span->kind);
                colours_[span->kind] = known != kColours.end()
                                           ? known->second
                                           : kOtherColours[others++ % kOtherColours.size()];
            }
        }
    }

    // Later chunks are lighter.
    Colour colour_of(const std::string& kind, int chunk) const {
        const Colour& full = colours_.at(kind);
        const double white = most_chunk_ == 0 ? 0.0 : 0.55 * chunk / most_chunk_;
        const auto mixed = [&](int part) {
            return static_cast<int>(std::lround(part + white * (255 - part)));
        };
        return {mixed(full.red), mixed(full.green), mixed(full.blue)};
    }
    static std::string fill(const Colour& colour) {
        char text[24];
        std::snprintf(text, sizeof text, "#%02x%02x%02x", colour.red, colour.green, colour.blue);
        return text;
    }
    static bool is_dark(const Colour& colour) {
        return 0.3 * colour.red + 0.59 * colour.green + 0.11 * colour.blue < 125.0;
    }

    double x_of(double time) const { return kLeft + (time - begin_) / length_ * width_; }
    double row_top(int row) const { return top_ + row * (kRowHeight + kRowGap); }
    double text_line(int row) const { return row_top(row) + 0.5 * kRowHeight + 0.36 * kFontSize; }

    static double entry_width(const std::string& text) {
        return 19.0 + kCharacterWidth * static_cast<double>(text.size()) + 20.0;
    }
    std::string legend_of(const std::string& kind, int chunk) const {
        return most_chunk_ == 0 ? kind : kind + ", chunk " + std::to_string(chunk);
    }
    double legend_width() const {
        double width = 0.0;
        for (const std::string& kind : kinds_) {
            width += (most_chunk_ + 1) * entry_width(legend_of(kind, most_chunk_));
        }
        return width;
    }

    void draw_legend() {
        double x = kLeft;
        const double y = top_ - kLegendHeight + 6.0;
        const auto entry = [&](const Colour& colour, const std::string& text) {
            svg_ += "<rect x=\"" + pixels(x) + "\" y=\"" + pixels(y) +
                    "\" width=\"14\" height=\"14\" fill=\"" + fill(colour) + "\"/>\n";
            svg_ += svg_text(x + 19.0, y + 11.5, "", text);
            x += entry_width(text);
        };
        for (const std::string& kind : kinds_) {
            for (int chunk = 0; chunk <= most_chunk_; ++chunk) {
                entry(colour_of(kind, chunk), legend_of(kind, chunk));
            }
        }
    }

    void draw_axis(double bottom) {
        const double step = round_step(length_ * 80.0 / width_);
        for (double at = 0.0; at <= length_ * (1.0 + 1e-9); at += step) {
            const std::string x = pixels(kLeft + at / length_ * width_);
            svg_ += "<line x1=\"" + x + "\" x2=\"" + x + "\" y1=\"" + pixels(top_) + "\" y2=\"" +
                    pixels(bottom + 3.0) + "\" stroke=\"#b8b8b8\"/>\n";
            const bool has_unit = at == 0.0 && !style_.time_unit.empty();
            svg_ += svg_text(kLeft + at / length_ * width_, bottom + 17.0, "text-anchor=\"middle\"",
                             short_number(at) + (has_unit ? " " + style_.time_unit : ""));
        }
    }

    void draw_span(const DrawnSpan& span) {
        const Colour colour = colour_of(span.kind, span.chunk);
        const double x = x_of(span.begin), width = x_of(span.end) - x;
        svg_ += "<g><title>" + escaped(span.kind + " " + span.name) +
                (most_chunk_ > 0 ? ", chunk " + std::to_string(span.chunk) : "") + ": " +
                short_number(span.begin) + " to " + short_number(span.end) + "</title><rect x=\"" +
                pixels(x) + "\" y=\"" + pixels(row_top(span.rank)) + "\" width=\"" + pixels(width) +
                "\" height=\"" + pixels(kRowHeight) + "\" fill=\"" + fill(colour) +
                "\" stroke=\"white\" stroke-width=\"0.8\"/>";
        if (kCharacterWidth * static_cast<double>(span.name.size()) + 2.0 <= width) {
            const std::string ink = is_dark(colour) ? "white" : "black";
            svg_ += "<text x=\"" + pixels(x + 0.5 * width) + "\" y=\"" +
                    pixels(text_line(span.rank)) + "\" text-anchor=\"middle\" fill=\"" + ink +
                    "\">" + escaped(span.name) + "</text>";
        }
        svg_ += "</g>\n";
    }

    const std::vector<DrawnSpan>& spans_;
    const DrawingStyle& style_;
    int rows_ = 0, most_chunk_ = 0;
    double begin_ = 0.0, length_ = 1.0, width_ = 0.0, top_ = 0.0;
    std::vector<std::string> kinds_;
    std::map<std::string, Colour> colours_;
    std::string svg_;
};

}  // namespace

std::vector<DrawnSpan> spans_of(const Simulation& simulation) {
    std::vector<DrawnSpan> spans;
    for (size_t rank = 0; rank < simulation.actions.size(); ++rank) {
        for (const Simulation::TimedAction& timed : simulation.actions[rank]) {
            spans.push_back({static_cast<int>(rank), std::to_string(timed.action.micro_batch),
                             name_of(timed.action.kind), timed.action.chunk, timed.begin,
                             timed.end});
        }
    }
    return spans;
}

std::string draw_svg(const std::vector<DrawnSpan>& spans, const DrawingStyle& style) {
    return SvgDrawing(spans, style).draw();
}

std::string draw_chrome_trace(const std::vector<DrawnSpan>& spans, double microseconds_per_unit) {
    int ranks = 0;
    for (const DrawnSpan& span : spans) ranks = std::max(ranks, span.rank + 1);
    nlohmann::ordered_json events = nlohmann::ordered_json::array();
    for (int rank = 0; rank < ranks; ++rank) {
        events.push_back({{"ph", "M"},
                          {"name", "process_name"},
                          {"pid", rank},
                          {"args", {{"name", "rank " + std::to_string(rank)}}}});
        events.push_back({{"ph", "M"},
                          {"name", "process_sort_index"},
                          {"pid", rank},
                          {"args", {{"sort_index", rank}}}});
        events.push_back({{"ph", "M"},
                          {"name", "thread_name"},
                          {"pid", rank},
                          {"tid", 0},
                          {"args", {{"name", "compute"}}}});
    }
    for (const DrawnSpan& span : spans) {
        events.push_back({{"ph", "X"},
                          {"name", span.kind + " " + span.name},
                          {"cat", span.kind},
                          {"pid", span.rank},
                          {"tid", 0},
                          {"ts", span.begin * microseconds_per_unit},
                          {"dur", (span.end - span.begin) * microseconds_per_unit},
                          {"args", {{"chunk", span.chunk}}}});
    }
    const nlohmann::ordered_json trace{{"displayTimeUnit", "ns"}, {"traceEvents", events}};
    return trace.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string times_table(const Simulation& simulation) {
    std::string table = " rank       begin         end        busy      bubble  bubble %   peak\n";
    for (size_t rank = 0; rank < simulation.ranks.size(); ++rank) {
        const Simulation::RankTimes& times = simulation.ranks[rank];
        const double share =
            simulation.makespan > 0.0 ? 100.0 * times.bubble / simulation.makespan : 0.0;
        char line[120];
        std::snprintf(line, sizeof line, "%5zu %11.6g %11.6g %11.6g %11.6g %9.2f %6d\n", rank,
                      times.first_begin, times.last_end, times.busy, times.bubble, share,
                      times.peak_activations);
        table += line;
    }
    return table + "makespan " + short_number(simulation.makespan) + ", longest rank " +
           short_number(simulation.cost) + ", bubble rate " +
           format_number("%.4f", simulation.bubble_rate) + "\n";
}

std::string draw_text(const Simulation& simulation) {
    double slot = simulation.makespan;
    size_t cell = 2;
    for (const auto& actions : simulation.actions) {
        for (const Simulation::TimedAction& timed : actions) {
            if (timed.end > timed.begin) slot = std::min(slot, timed.end - timed.begin);
            cell = std::max(cell, cell_of(timed.action).size());
        }
    }
    std::string text;
    for (const auto& actions : simulation.actions) {
        std::string line;
        for (const Simulation::TimedAction& timed : actions) {
            const double column = slot > 0.0 ? std::round(timed.begin / slot) : 0.0;
            // Never over the one before.
            line.resize(std::max(line.size(), static_cast<size_t>(column) * (cell + 1)), ' ');
            line += cell_of(timed.action);
            line.resize((line.size() / (cell + 1) + 1) * (cell + 1), ' ');
        }
        while (line.ends_with(' ')) line.pop_back();
        text += line + "\n";
    }
    return text;
}

}  // namespace trireme
