#include "app/time_limit.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace trireme {

namespace {

constexpr double kUnknownSave = 30.0;
constexpr double kMostSeconds = 1e9;
constexpr double kNever = std::numeric_limits<double>::infinity();

std::optional<double> whole(std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size() || value < 0) {
        return std::nullopt;
    }
    return static_cast<double>(value);
}

}  // namespace

std::optional<double> parse_duration(const std::string& text) {
    std::string_view rest = text;
    double seconds = 0.0;
    if (rest.find(':') == std::string_view::npos) {
        double value = 0.0;
        const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
        if (rest.empty() || error != std::errc() || end != rest.data() + rest.size() ||
            !std::isfinite(value) || value < 0 || value > kMostSeconds) {
            return std::nullopt;
        }
        return value;
    }
    if (const size_t dash = rest.find('-'); dash != std::string_view::npos) {
        const auto days = whole(rest.substr(0, dash));
        if (!days || *days > kMostSeconds) return std::nullopt;
        seconds = *days * 86400;
        rest = rest.substr(dash + 1);
    }
    for (int part = 0; part < 3; ++part) {
        const size_t colon = part < 2 ? rest.find(':') : rest.size();
        if (colon == std::string_view::npos) return std::nullopt;
        const auto value = whole(rest.substr(0, colon));
        if (!value || (part > 0 && *value >= 60)) return std::nullopt;
        seconds += *value * (part == 0 ? 3600 : part == 1 ? 60 : 1);
        rest = part < 2 ? rest.substr(colon + 1) : std::string_view();
    }
    if (seconds > kMostSeconds) return std::nullopt;
    return seconds;
}

TimeLimit::TimeLimit(const Moment& start, double limit_seconds, const char* job_end)
    : start_(start) {
    if (limit_seconds > 0) {
        end_ = start.steady + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                  std::chrono::duration<double>(limit_seconds));
    }
    const std::optional<double> epoch = job_end ? whole(job_end) : std::nullopt;
    if (!epoch || *epoch <= 0 || *epoch > 1e11) return;
    job_end_.emplace(std::chrono::seconds(static_cast<int64_t>(*epoch)));
}

double TimeLimit::seconds_of_run(const Moment& now) const {
    return end_ ? std::chrono::duration<double>(*end_ - now.steady).count() : kNever;
}

double TimeLimit::seconds_of_job(const Moment& now) const {
    return job_end_ ? std::chrono::duration<double>(*job_end_ - now.wall).count() : kNever;
}

bool TimeLimit::is_due(const Moment& now, double needed_seconds) const {
    return std::min(seconds_of_run(now), seconds_of_job(now)) < needed_seconds;
}

double TimeLimit::length_seconds() const {
    if (!exists()) return 0.0;
    return std::max(0.0, std::min(seconds_of_run(start_), seconds_of_job(start_)));
}

std::string TimeLimit::describe(const Moment& now) const {
    if (seconds_of_job(now) < seconds_of_run(now)) return "the job's end, SLURM_JOB_END_TIME";
    return "run.time_limit " + std::to_string(std::llround(seconds_of_run(start_))) + " s";
}

double seconds_to_end(double step_seconds, double save_seconds, double length_seconds) {
    const double save =
        save_seconds > 0 ? save_seconds : std::min(kUnknownSave, length_seconds / 20);
    return 2 * (save + step_seconds);
}

}  // namespace trireme
