#include "core/formulas.h"
#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

double gelu_reference(double x) {
    return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

Doubles swiglu_reference(const Doubles& gate_up, int64_t f) {
    Doubles y;
    for (size_t row = 0; row < gate_up.size(); row += 2 * f) {
        for (int64_t i = 0; i < f; ++i) {
            const double gate = gate_up[row + i];
            y.push_back(gate / (1.0 + std::exp(-gate)) * gate_up[row + f + i]);
        }
    }
    return y;
}

double ulps(float got, double want) {
    const float rounded = std::abs(static_cast<float>(want));
    if (std::isinf(rounded)) return std::isinf(got) ? 0.0 : 1e9;
    const double unit = rounded == std::numeric_limits<float>::max()
                            ? std::ldexp(1.0, 104)
                            : std::nextafter(rounded, INFINITY) - rounded;
    return std::abs(got - want) / unit;
}

}  // namespace

TEST_CASE("exp and tanh are within a few ulp over the whole range of floats",
          "[core][activation]") {
    double worst_exp = 0.0;
    double worst_tanh = 0.0;
    for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 4999) {
        const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
        if (std::isnan(x)) continue;
        worst_exp = std::max(worst_exp, ulps(fast_exp(x), std::exp(double{x})));
        worst_tanh = std::max(worst_tanh, ulps(fast_tanh(x), std::tanh(double{x})));
    }
    // Densely where the result is neither 0 nor 1 nor infinite.
    for (float x = -104.5f; x < 89.5f; x += 0.00037f) {
        worst_exp = std::max(worst_exp, ulps(fast_exp(x), std::exp(double{x})));
        worst_tanh = std::max(worst_tanh, ulps(fast_tanh(x / 10), std::tanh(double{x / 10})));
    }
    CHECK(worst_exp < 2.0);
    CHECK(worst_tanh < 4.0);
}

TEST_CASE("exp and tanh keep to the rules at the edges", "[core][activation]") {
    const float infinity = INFINITY;
    CHECK(fast_exp(-infinity) == 0.0f);
    CHECK(fast_exp(infinity) == infinity);
    CHECK(fast_exp(0.0f) == 1.0f);
    CHECK(fast_exp(-1e30f) == 0.0f);
    CHECK(fast_exp(89.0f) == infinity);
    CHECK(std::isnan(fast_exp(NAN)));
    CHECK(fast_tanh(infinity) == 1.0f);
    CHECK(fast_tanh(-infinity) == -1.0f);
    CHECK(std::signbit(fast_tanh(-0.0f)));
    CHECK(std::isnan(fast_tanh(NAN)));
    CHECK(std::isnan(gelu(NAN)));
    CHECK(std::isnan(gelu_derivative(NAN)));
    CHECK(gelu_derivative(1e30f) == 1.0f);
    CHECK(gelu_derivative(-1e30f) == 0.0f);
}

TEST_CASE("gelu and its gradient follow the double reference", "[core][activation]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 3, 7);
    const int64_t cols = GENERATE(1, 33, 257);
    const OwnedTensor x = random_tensor(type, {rows, cols}, 1, -6.0, 6.0);
    const OwnedTensor dy = random_tensor(type, {rows, cols}, 2);
    OwnedTensor y(type, {rows, cols});
    OwnedTensor dx = dy;
    CpuOps ops(2);
    CpuStream stream;
    ops.gelu_forward(stream, x, y);
    ops.gelu_backward(stream, dx, x, dx);  // in place
    Doubles want;
    for (double v : x.values()) want.push_back(gelu_reference(v));
    check_close(y.values(), want, one_rounding(type), "gelu");
    const auto loss = [&](const Doubles& v) {
        double sum = 0.0;
        for (size_t i = 0; i < v.size(); ++i) {
            sum += gelu_reference(v[i]) * dy.at(static_cast<int64_t>(i));
        }
        return sum;
    };
    check_gradient(loss, x.values(), dx.values(), one_rounding(type), "gelu");
}

TEST_CASE("swiglu and its gradient follow the double reference", "[core][activation]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 3, 7);
    const int64_t f = GENERATE(1, 33, 257);
    const OwnedTensor gate_up = random_tensor(type, {rows, 2 * f}, 1, -6.0, 6.0);
    const OwnedTensor dy = random_tensor(type, {rows, f}, 2);
    OwnedTensor y(type, {rows, f});
    OwnedTensor dgate_up = gate_up;
    CpuOps ops(2);
    CpuStream stream;
    ops.swiglu_forward(stream, gate_up, y);
    ops.swiglu_backward(stream, dy, dgate_up, dgate_up);  // in place
    const Tolerance tolerance{one_rounding(type).relative, 2e-5};
    check_close(y.values(), swiglu_reference(gate_up.values(), f), tolerance, "swiglu");
    const auto loss = [&](const Doubles& v) { return dot(dy.values(), swiglu_reference(v, f)); };
    check_gradient(loss, gate_up.values(), dgate_up.values(), tolerance, "swiglu");
}

TEST_CASE("activations give the same bits on any number of threads", "[core][activation]") {
    const OwnedTensor x = random_tensor(DType::bf16, {67, 514}, 1, -4.0, 4.0);
    OwnedTensor gelu_one(DType::bf16, {67, 514}), gelu_three = gelu_one;
    OwnedTensor swiglu_one(DType::bf16, {67, 257}), swiglu_three = swiglu_one;
    CpuOps one(1), three(3);
    CpuStream stream;
    one.gelu_forward(stream, x, gelu_one);
    three.gelu_forward(stream, x, gelu_three);
    one.swiglu_forward(stream, x, swiglu_one);
    three.swiglu_forward(stream, x, swiglu_three);
    CHECK(gelu_one.bytes() == gelu_three.bytes());
    CHECK(swiglu_one.bytes() == swiglu_three.bytes());
}

}  // namespace trireme::test
