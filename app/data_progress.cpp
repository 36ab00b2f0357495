#include "app/data_progress.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "app/checkpoint_keys.h"

namespace trireme {

namespace {

using Point = DataProgress::Point;

// amount * part / whole, rounded down.
int64_t share(int64_t amount, int64_t part, int64_t whole) {
    const auto product = static_cast<unsigned __int128>(amount) * static_cast<uint64_t>(part);
    return static_cast<int64_t>(product / static_cast<uint64_t>(whole));
}

bool is_each_step(int64_t in_step, int64_t amount, int64_t steps) {
    return amount % steps == 0 && amount / steps == in_step;
}

// Empty unless they lead up to the checkpoint.
std::vector<Point> former_points(const Point& checkpoint,
                                 const std::map<std::string, std::string>& extra) {
    const auto found = extra.find(checkpoint_keys::kDataProgress);
    if (found == extra.end()) return {};
    std::vector<Point> points;
    try {
        for (const auto& entry : nlohmann::json::parse(found->second)) {
            const Point point{entry.at(0), entry.at(1), entry.at(2)};
            const Point last = points.empty() ? Point{-1, 0, 0} : points.back();
            if (point.step <= last.step || point.samples < last.samples ||
                point.tokens < last.tokens) {
                return {};
            }
            points.push_back(point);
        }
    } catch (const nlohmann::json::exception&) {
        return {};
    }
    // Saved where the run began: the same point twice.
    if (!points.empty() && points.back().step == checkpoint.step) points.pop_back();
    if (points.empty() || points[0].step != 0) return {};
    const Point last = points.back();
    const bool leads_here = last.step < checkpoint.step && last.samples <= checkpoint.samples &&
                            last.tokens <= checkpoint.tokens;
    return leads_here ? points : std::vector<Point>{};
}

}  // namespace

void DataProgress::go_on_from(const Point& checkpoint,
                              const std::map<std::string, std::string>& extra) {
    points_ = former_points(checkpoint, extra);
    if (points_.empty() && checkpoint.step > 0) points_.push_back({});
    // An earlier start that changed nothing need not be remembered.
    if (points_.size() > 1) {
        const Point &before = points_[points_.size() - 2], last = points_.back();
        const int64_t steps = checkpoint.step - last.step;
        const int64_t samples = checkpoint.samples - last.samples;
        const int64_t tokens = checkpoint.tokens - last.tokens;
        if (samples % steps == 0 && tokens % steps == 0 &&
            is_each_step(samples / steps, last.samples - before.samples, last.step - before.step) &&
            is_each_step(tokens / steps, last.tokens - before.tokens, last.step - before.step)) {
            points_.pop_back();
        }
    }
    points_.push_back(checkpoint);
}

int64_t DataProgress::after(int64_t step, int64_t Point::*amount, int64_t in_step) const {
    const auto next =
        std::upper_bound(points_.begin() + 1, points_.end(), step,
                         [](int64_t wanted, const Point& point) { return wanted < point.step; });
    const Point& from = *(next - 1);
    const int64_t steps = step - from.step;
    if (next == points_.end()) return from.*amount + steps * in_step;
    return from.*amount + share((*next).*amount - from.*amount, steps, next->step - from.step);
}

int64_t DataProgress::samples_after(int64_t step) const {
    return after(step, &Point::samples, batch_);
}

int64_t DataProgress::tokens_after(int64_t step) const {
    return after(step, &Point::tokens, batch_ * sequence_length_);
}

bool DataProgress::is_even() const {
    for (size_t i = 1; i < points_.size(); ++i) {
        if (!is_each_step(batch_, points_[i].samples - points_[i - 1].samples,
                          points_[i].step - points_[i - 1].step)) {
            return false;
        }
    }
    return points_[0].samples == 0;
}

std::string DataProgress::text() const {
    nlohmann::json points = nlohmann::json::array();
    for (const Point& point : points_) points.push_back({point.step, point.samples, point.tokens});
    return points.dump();
}

}  // namespace trireme
