#include "core/random_id.h"

#include <random>

namespace trireme {

std::string random_id(int digits) {
    std::random_device device;
    std::string id;
    while (static_cast<int>(id.size()) < digits) id += "0123456789abcdef"[device() & 15u];
    return id;
}

}  // namespace trireme
