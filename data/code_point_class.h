#pragma once

#include <cstdint>
#include <vector>

namespace trireme {

// What splitting patterns ask of a code point. Every code point has one class; a class is a bit, so
// that a set of them is a mask.
namespace code_point_class {
constexpr uint8_t kUpper = 1;     // Lu, Lt
constexpr uint8_t kLower = 2;     // Ll
constexpr uint8_t kCaseless = 4;  // Lm, Lo
constexpr uint8_t kMark = 8;      // M
constexpr uint8_t kNumber = 16;   // N
constexpr uint8_t kSpace = 32;    // white space but for line ends
constexpr uint8_t kLineEnd = 64;  // \r and \n
constexpr uint8_t kOther = 128;   // the rest
}  // namespace code_point_class

// The class of each code point, 0x110000 of them. Made at the first call from what PCRE2 matches,
// so that it is the same Unicode; takes some milliseconds. Safe to call from several threads.
const std::vector<uint8_t>& code_point_classes();

}  // namespace trireme
