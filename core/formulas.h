#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "core/host_device.h"

// Scalar formulas of the operations, written once for the host and the device compiler. All are
// branch-free, so that loops over them vectorise.

namespace trireme {

// exp(x) = (1 + fraction) * 2^exponent, with |fraction| < 0.42.
struct ExpParts {
    float fraction;
    int32_t exponent;
};

// x must lie in about [-1e6, 1e6]. The polynomial is the near-minimax one of degree 6 on
// |r| <= ln2 / 2; its own error is below 0.1 ulp.
TRIREME_HOST_DEVICE inline ExpParts split_exp(float x) {
    constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const float shifted = x * 1.44269504f + kRounder;
    const float n = shifted - kRounder;
    // ln2 in two parts; the first has few bits, so that its product with n is exact.
    const float r = (x - n * 0.693145751953125f) - n * 1.42860677e-06f;
    float p = 0.00139262143f;
    p = p * r + 0.00836320315f;
    p = p * r + 0.0416665561f;
    p = p * r + 0.166665763f;
    p = p * r + 0.5f;
    const uint32_t exponent = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRounder);
    return {r + (r * r) * p, static_cast<int32_t>(exponent)};
}

// 2^n for n in [-126, 127].
TRIREME_HOST_DEVICE inline float power_of_two(int32_t n) {
    return std::bit_cast<float>((static_cast<uint32_t>(n) + 127u) << 23);
}

// Within 2 ulp over the whole range: gradual underflow to 0, overflow to infinity, exp(-inf) = 0,
// NaN stays NaN. A GPU's own is as exact and takes a third of the instructions.
TRIREME_HOST_DEVICE inline float fast_exp(float x) {
#ifdef __CUDA_ARCH__
    return expf(x);
#else
    float limited = x < -104.0f ? -104.0f : x;
    limited = limited > 89.0f ? 89.0f : limited;
    const ExpParts parts = split_exp(limited);
    // The exponent may leave the range of normal floats: scale in two steps.
    const int32_t half = parts.exponent >> 1;
    const float scaled = (1.0f + parts.fraction) * power_of_two(half);
    return scaled * power_of_two(parts.exponent - half);
#endif
}

// a / b for b in [1, 2^126], within 2 ulp.
TRIREME_HOST_DEVICE inline float fast_divide(float a, float b) {
#ifdef __CUDA_ARCH__
    return __fdividef(a, b);
#else
    return a / b;
#endif
}

// exp(x) - 1 for x in [0, 87], accurate near 0 too.
TRIREME_HOST_DEVICE inline float fast_expm1_positive(float x) {
    const ExpParts parts = split_exp(x);
    const float power = power_of_two(parts.exponent);
    return power * parts.fraction + (power - 1.0f);
}

// Within 4 ulp.
TRIREME_HOST_DEVICE inline float fast_tanh(float x) {
    const float magnitude = std::fabs(x) > 10.0f ? 10.0f : std::fabs(x);  // beyond: 1 in f32
    const float e = fast_expm1_positive(2.0f * magnitude);
    return std::copysign(e / (e + 2.0f), x);
}

// s(x) = 1 / (1 + exp(-x)) and 1 - s(x), both without cancellation.
struct SigmoidPair {
    float value;
    float complement;
};

TRIREME_HOST_DEVICE inline SigmoidPair sigmoid_pair(float x) {
    const float e = fast_exp(-std::fabs(x));
    const float large = fast_divide(1.0f, 1.0f + e);
    const float small = e * large;
    return x < 0.0f ? SigmoidPair{small, large} : SigmoidPair{large, small};
}

TRIREME_HOST_DEVICE inline float sigmoid(float x) {
    const float e = fast_exp(-std::fabs(x));
    return fast_divide(x < 0.0f ? e : 1.0f, 1.0f + e);
}

inline constexpr float kGeluScale = 1.59576912f;  // 2 sqrt(2 / pi)
inline constexpr float kGeluCubic = 0.044715f;

// GELU, tanh approximation: 0.5 x (1 + tanh(u)) with u = sqrt(2 / pi) (x + 0.044715 x^3). Since
// 0.5 (1 + tanh(u)) = sigmoid(2 u), there is no cancellation for negative x.
TRIREME_HOST_DEVICE inline float gelu(float x) {
    return x * sigmoid(kGeluScale * x * (1.0f + kGeluCubic * x * x));
}

TRIREME_HOST_DEVICE inline float gelu_derivative(float x) {
    // Beyond +-20 the derivative is 0 or 1 exactly, and squares would overflow.
    float c = x < -20.0f ? -20.0f : x;
    c = c > 20.0f ? 20.0f : c;
    const SigmoidPair s = sigmoid_pair(kGeluScale * c * (1.0f + kGeluCubic * c * c));
    const float inner = kGeluScale * (1.0f + 3.0f * kGeluCubic * c * c);
    return s.value + c * (s.value * s.complement) * inner;
}

// SiLU: x sigmoid(x). Its infinities: silu(-inf) is NaN as in 0 * inf.
TRIREME_HOST_DEVICE inline float silu(float x) {
    return x * sigmoid(x);
}

TRIREME_HOST_DEVICE inline float swiglu(float gate, float up) {
    return silu(gate) * up;
}

struct SwigluGradient {
    float gate;
    float up;
};

TRIREME_HOST_DEVICE inline SwigluGradient swiglu_gradient(float dy, float gate, float up) {
    const SigmoidPair s = sigmoid_pair(gate);
    const float derivative = s.value + (gate * s.complement) * s.value;
    return {dy * up * derivative, dy * (gate * s.value)};
}

struct RotatedPair {
    float first;
    float second;
};

// Rotation of the pair (elements i and i + D/2) by the angle whose cosine and sine are given. The
// backward is the rotation by the opposite angle: pass -sin.
TRIREME_HOST_DEVICE inline RotatedPair rotate_pair(float first, float second, float cos,
                                                   float sin) {
    return {first * cos - second * sin, second * cos + first * sin};
}

// Factors of one AdamW step that are the same for every element.
struct AdamWFactors {
    float beta1, one_minus_beta1;
    float beta2, one_minus_beta2;
    float inverse_bias1, inverse_bias2;  // 1 / (1 - beta^step)
    float lr, eps, weight_decay;
};

struct AdamWElement {
    float master, m, v;
};

TRIREME_HOST_DEVICE inline AdamWElement adamw_update(const AdamWFactors& f, float gradient,
                                                     AdamWElement old) {
    const float m = f.beta1 * old.m + f.one_minus_beta1 * gradient;
    const float v = f.beta2 * old.v + f.one_minus_beta2 * (gradient * gradient);
    const float direction = m * f.inverse_bias1 / (std::sqrt(v * f.inverse_bias2) + f.eps);
    return {old.master - f.lr * (direction + f.weight_decay * old.master), m, v};
}

}  // namespace trireme
