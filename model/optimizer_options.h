#pragma once

#include <cstdint>

namespace trireme {

struct OptimizerOptions {
    float lr = 6.0e-4f;
    float beta1 = 0.9f;
    float beta2 = 0.95f;
    float eps = 1.0e-8f;
    float weight_decay = 0.1f;
    float clip_norm = 1.0f;  // 0: no clipping
};

enum class LrShape { constant, linear, cosine, wsd };

struct LrScheduleOptions {
    LrShape shape = LrShape::cosine;
    int64_t warmup_steps = 0;
    float min_lr = 0.0f;
    int64_t decay_steps = 0;  // wsd: length of the final decay; 0: a tenth of all steps
};

}  // namespace trireme
