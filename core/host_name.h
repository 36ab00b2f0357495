#pragma once

#include <string>

namespace trireme {

// The machine's name as it knows it itself; "unknown-host" where it knows none.
std::string own_host_name();

}  // namespace trireme
