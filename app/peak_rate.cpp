#include "app/peak_rate.h"

#include <chrono>

#include "core/arena.h"

namespace trireme {

double measure_matmul_rate(Device& device, DType type) {
    constexpr int64_t kSize = 512;
    constexpr int kRepeats = 32;
    Tensor x, w, y;
    const Arena arena = make_arena(device, "rate measurement", [&](Arena& a) {
        x = a.take(type, {kSize, kSize});
        w = a.take(type, {kSize, kSize});
        y = a.take(type, {kSize, kSize});
    });
    const auto multiply = [&] {
        device.ops().linear_forward(device.compute(), x, w, Tensor(), y);
        device.compute().synchronize();
    };
    multiply();
    // The mean, not the best: where ranks share cores, the share is part of the rate.
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kRepeats; ++i) multiply();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    return kRepeats * 2.0 * kSize * kSize * kSize / seconds.count();
}

}  // namespace trireme
