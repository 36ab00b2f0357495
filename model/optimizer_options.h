#pragma once

#include <cstdint>

namespace trireme {

struct OptimizerOptions {
    double lr = 6.0e-4;
    double beta1 = 0.9;
    double beta2 = 0.95;
    double eps = 1.0e-8;
    double weight_decay = 0.1;
    float clip_norm = 1.0f;  // 0: no clipping
};

enum class LrShape { constant, linear, cosine, wsd };

struct LrScheduleOptions {
    LrShape shape = LrShape::cosine;
    int64_t warmup_steps = 0;
    double min_lr = 0.0;
    int64_t decay_steps = 0;  // wsd: length of the final decay; 0: a tenth of all steps
};

}  // namespace trireme
