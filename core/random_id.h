#pragma once

#include <string>

namespace trireme {

// So many hexadecimal digits, different for every call in every process: for names that must not
// meet. Not from the run's seed.
std::string random_id(int digits = 16);

}  // namespace trireme
