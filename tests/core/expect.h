#pragma once

#include <stdexcept>
#include <string>

namespace trireme::test {

// Assertions of the test framework are for one thread only; ranks throw instead.
inline void expect(bool condition, const std::string& what) {
    if (!condition) throw std::runtime_error("not as expected: " + what);
}

}  // namespace trireme::test
