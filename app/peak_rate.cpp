#include "app/peak_rate.h"

#include <algorithm>
#include <chrono>

#include "core/arena.h"

namespace trireme {

double peak_matmul_rate(Device& device, DType type, double share) {
    const double known = device.peak_flops_per_second(type);
    return known > 0.0 ? known : share * measure_matmul_rate(device, type);
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
    // One product is shorter than a turn of the system's scheduler, so some run undisturbed even
    // where ranks share cores.
    std::chrono::duration<double> fastest = std::chrono::hours(1);
    for (int i = 0; i < kRepeats; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        multiply();
        fastest = std::min<std::chrono::duration<double>>(fastest,
                                                          std::chrono::steady_clock::now() - begin);
    }
    const double n = static_cast<double>(size);
    return 2.0 * n * n * n / fastest.count();
}

}  // namespace trireme
