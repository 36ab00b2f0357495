#include "app/config_problems.h"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"
#include "core/file_io.h"

namespace trireme {

namespace {

constexpr size_t kMaxShown = 60;
constexpr size_t kMaxReported = 100;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 20;

}  // namespace

void ConfigProblems::add(const ConfigPlace& place, const std::string& key,
                         const std::string& text) {
    std::string line = place.text;
    if (!key.empty()) line += (line.empty() ? "" : ": ") + shown(key);
    line += (line.empty() ? "" : ": ") + text;
    problems_.push_back({place.line > 0 ? place.line : INT_MAX, line});
    keys_.insert(key);
}

void ConfigProblems::throw_if_any() const {
    if (problems_.empty()) return;
    std::vector<Problem> sorted = problems_;
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const Problem& a, const Problem& b) { return a.line < b.line; });
    if (sorted.size() == 1) throw Error(ExitCode::config, sorted[0].text);
    std::string message = std::to_string(sorted.size()) + " problems in the configuration";
    for (size_t i = 0; i < std::min(sorted.size(), kMaxReported); ++i) {
        message += "\n  " + sorted[i].text;
    }
    if (sorted.size() > kMaxReported) {
        message += "\n  and " + std::to_string(sorted.size() - kMaxReported) + " more";
    }
    throw Error(ExitCode::config, message);
}

ConfigPlace place_in(const std::string& file, int line) {
    if (line == 0) return {file, 0};
    return {file + ":" + std::to_string(line), line};
}

std::string read_config_file(const std::string& path) {
    try {
        return read_file(path, kMaxFileBytes);
    } catch (const Error& error) {
        throw Error(ExitCode::config, error.what());
    }
}

std::string shown(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (out.size() >= kMaxShown) {
            // Not in the middle of a character of several bytes.
            while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) {
                out.pop_back();
            }
            if (!out.empty() && (static_cast<unsigned char>(out.back()) & 0x80) != 0) {
                out.pop_back();
            }
            return out + "...";
        }
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) {
            char code[8];
            std::snprintf(code, sizeof(code), "\\x%02x", static_cast<unsigned>(byte));
            out += code;
        } else {
            out += c;
        }
    }
    return out;
}

int edit_distance(std::string_view one, std::string_view other, int limit) {
    const int rows = static_cast<int>(one.size()), columns = static_cast<int>(other.size());
    if (std::abs(rows - columns) > limit) return limit + 1;
    std::vector<int> before(other.size() + 1), last(other.size() + 1), now(other.size() + 1);
    for (int j = 0; j <= columns; ++j) last[j] = j;
    for (int i = 1; i <= rows; ++i) {
        now[0] = i;
        for (int j = 1; j <= columns; ++j) {
            const int replace = last[j - 1] + (one[i - 1] != other[j - 1]);
            now[j] = std::min({last[j] + 1, now[j - 1] + 1, replace});
            const bool swapped =
                i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
            if (swapped) now[j] = std::min(now[j], before[j - 2] + 1);
        }
        std::swap(before, last);
        std::swap(last, now);
    }
    return last[columns];
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
    const int limit = std::max(1, std::min(3, static_cast<int>(word.size()) / 2));
    int best = limit + 1;
    std::string nearest;
    for (const std::string& candidate : candidates) {
        const int distance = edit_distance(word, candidate, limit);
        if (distance < best) {
            best = distance;
            nearest = candidate;
        }
    }
    return nearest;
}

std::string did_you_mean(const std::string& word) {
    return word.empty() ? "" : "; did you mean '" + word + "'?";
}

}  // namespace trireme
