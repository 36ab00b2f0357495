#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trireme {

// Numbers as people read them.

// "118.0 MiB"
std::string readable_bytes(uint64_t bytes);

// "24,810"; of the second, rounded to a whole number.
std::string with_commas(uint64_t value);
std::string with_commas(double value);

// "1:02:03"
std::string clock_text(int64_t seconds);

// "[257, 24]"
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace trireme
