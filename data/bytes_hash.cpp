#include "data/bytes_hash.h"

#include <random>

namespace trireme {

HashKey HashKey::random() {
    std::random_device device;
    const auto word = [&device] { return uint64_t{device()} << 32 | device(); };
    const uint64_t start = word();
    return {start, word() | 1};
}

}  // namespace trireme
