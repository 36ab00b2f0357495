#pragma once

#include <cstdint>

#include "model/optimizer_options.h"

namespace trireme {

// Learning rate of a step, from 1 to `steps`. Warm-up rises linearly to `peak` at warmup_steps;
// then constant; linear or cosine to min_lr at the last step; or WSD (Hu et al. 2024): constant,
// then linear to min_lr over the last decay_steps.
double learning_rate(const LrScheduleOptions& options, double peak, int64_t step, int64_t steps);

}  // namespace trireme
