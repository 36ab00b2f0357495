#include "app/spike_window.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "core/error.h"

namespace trireme {

double SpikeWindow::score(double value) const {
    if (!std::isfinite(value) || 2 * values_.size() < size_) return 0.0;
    const double n = static_cast<double>(values_.size());
    double mean = 0.0;
    for (const double one : values_) mean += one / n;
    double variance = 0.0;
    for (const double one : values_) variance += (one - mean) * (one - mean) / n;
    return variance > 0.0 ? (value - mean) / std::sqrt(variance) : 0.0;
}

void SpikeWindow::add(double value) {
    if (!std::isfinite(value)) return;
    values_.push_back(value);
    if (values_.size() > size_) values_.pop_front();
}

std::string SpikeWindow::text() const {
    std::string text;
    for (const double value : values_) {
        char exact[40];
        std::snprintf(exact, sizeof(exact), "%s%a", text.empty() ? "" : " ", value);
        text += exact;
    }
    return text;
}

void SpikeWindow::restore(const std::string& text) {
    values_.clear();
    std::istringstream words(text);
    for (std::string word; words >> word;) {
        char* end = nullptr;
        const double value = std::strtod(word.c_str(), &end);
        if (*end != '\0') {
            throw Error(ExitCode::bad_data, "the checkpoint's window of losses: found '" + word +
                                                "', expected a number");
        }
        add(value);
    }
}

}  // namespace trireme
