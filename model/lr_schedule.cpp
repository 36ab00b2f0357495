#include "model/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace trireme {

namespace {

// How far `step` is through (begin, end], from 0 to 1.
double progress(int64_t step, int64_t begin, int64_t end) {
    if (end <= begin) return step > begin ? 1.0 : 0.0;
    return std::clamp(static_cast<double>(step - begin) / static_cast<double>(end - begin), 0.0,
                      1.0);
}

}  // namespace

double learning_rate(const LrScheduleOptions& options, double peak, int64_t step, int64_t steps) {
    if (step <= options.warmup_steps) {
        return peak * static_cast<double>(step) / static_cast<double>(options.warmup_steps);
    }
    const double low = options.min_lr;
    switch (options.shape) {
        case LrShape::constant:
            return peak;
        case LrShape::linear:
            return peak + (low - peak) * progress(step, options.warmup_steps, steps);
        case LrShape::cosine: {
            const double at = progress(step, options.warmup_steps, steps);
            return low + (peak - low) * 0.5 * (1.0 + std::cos(std::numbers::pi * at));
        }
        case LrShape::wsd: {
            const int64_t decay =
                options.decay_steps > 0 ? options.decay_steps : std::max<int64_t>(1, steps / 10);
            const int64_t begin = std::max(options.warmup_steps, steps - decay);
            return peak + (low - peak) * progress(step, begin, steps);
        }
    }
    return peak;
}

}  // namespace trireme
