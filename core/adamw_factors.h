#pragma once

#include <cmath>

#include "core/formulas.h"
#include "core/ops.h"

namespace trireme {

// The factors of a step, found in double on the host for every back end, so that all update with
// the same numbers.
inline AdamWFactors make_adamw_factors(const AdamWStep& step) {
    const double beta1 = step.beta1;
    const double beta2 = step.beta2;
    const double t = static_cast<double>(step.step);
    AdamWFactors f;
    f.beta1 = static_cast<float>(beta1);
    f.one_minus_beta1 = static_cast<float>(1.0 - beta1);
    f.beta2 = static_cast<float>(beta2);
    f.one_minus_beta2 = static_cast<float>(1.0 - beta2);
    f.inverse_bias1 = static_cast<float>(1.0 / (1.0 - std::pow(beta1, t)));
    f.inverse_bias2 = static_cast<float>(1.0 / (1.0 - std::pow(beta2, t)));
    f.lr = static_cast<float>(step.lr);
    f.eps = static_cast<float>(step.eps);
    f.weight_decay = static_cast<float>(step.weight_decay);
    return f;
}

}  // namespace trireme
