#pragma once

#include <cstdint>
#include <string>

namespace trireme {

// "118.0 MiB"
std::string readable_bytes(uint64_t bytes);

}  // namespace trireme
