#pragma once

#include <string>

namespace trireme {

// A number as printf shows it: format_number("%.1f s", 2.0) is "2.0 s". At most 63 characters.
std::string format_number(const char* pattern, double value);

}  // namespace trireme
