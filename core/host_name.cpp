#include "core/host_name.h"

#include <unistd.h>

#include <array>

namespace trireme {

std::string own_host_name() {
    std::array<char, 256> name{};
    if (gethostname(name.data(), name.size() - 1) != 0) return "unknown-host";
    return name.data();
}

}  // namespace trireme
