#include "app/readable.h"

#include <cstdio>

#include "core/format_number.h"

namespace trireme {

namespace {

std::string with_commas(std::string digits) {
    for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
    return digits;
}

}  // namespace

std::string readable_bytes(uint64_t bytes) {
    if (bytes < 1024) return std::to_string(bytes) + " bytes";
    const char* const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = static_cast<double>(bytes) / 1024;
    size_t unit = 0;
    for (; value >= 1024 && unit < 3; ++unit) value /= 1024;
    return format_number("%.1f ", value) + units[unit];
}

std::string with_commas(uint64_t value) {
    return with_commas(std::to_string(value));
}
std::string with_commas(double value) {
    return with_commas(format_number("%.0f", value));
}

std::string clock_text(int64_t seconds) {
    char text[64];
    std::snprintf(text, sizeof text, "%lld:%02d:%02d", static_cast<long long>(seconds / 3600),
                  static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
    return text;
}

std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return "[" + text + "]";
}

}  // namespace trireme
