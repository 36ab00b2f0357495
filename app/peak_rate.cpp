#include "app/peak_rate.h"

#include <chrono>

#include "core/arena.h"

namespace trireme {

double peak_matmul_rate(Device& device, DType type) {
    const double known = device.peak_flops_per_second(type);
    return known > 0.0 ? known : measure_matmul_rate(device, type);
}

double measure_matmul_rate(Device& device, DType type) {
    // Large enough to keep every core of the device busy.
    const int64_t size = device.backend() == Backend::cuda ? 4096 : 512;
    constexpr int kRepeats = 32;
    Tensor x, w, y;
    const Arena arena = make_arena(device, "rate measurement", [&](Arena& a) {
        x = a.take(type, {size, size});
        w = a.take(type, {size, size});
        y = a.take(type, {size, size});
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
    const double n = static_cast<double>(size);
    return kRepeats * 2.0 * n * n * n / seconds.count();
}

}  // namespace trireme
