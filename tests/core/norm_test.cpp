#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

constexpr float kEps = 1e-5f;

Doubles norm_reference(bool centered, const Doubles& x, const Doubles& weight, const Doubles& bias,
                       int64_t cols) {
    Doubles y(x.size());
    for (size_t row = 0; row < x.size(); row += cols) {
        double mean = 0.0;
        for (int64_t c = 0; c < cols; ++c) mean += x[row + c] / static_cast<double>(cols);
        if (!centered) mean = 0.0;
        double variance = 0.0;
        for (int64_t c = 0; c < cols; ++c) {
            variance += (x[row + c] - mean) * (x[row + c] - mean) / static_cast<double>(cols);
        }
        for (int64_t c = 0; c < cols; ++c) {
            y[row + c] = (x[row + c] - mean) / std::sqrt(variance + double{kEps}) * weight[c] +
                         (centered ? bias[c] : 0.0);
        }
    }
    return y;
}

struct NormResult {
    OwnedTensor y, mean, rstd, dx, dweight, dbias;
};

NormResult run_norm(bool centered, int threads, const OwnedTensor& x, const OwnedTensor& weight,
                    const OwnedTensor& bias, const OwnedTensor& dy) {
    const DType type = x.get().dtype;
    const int64_t rows = x.get().rows();
    const int64_t cols = x.get().cols();
    NormResult r{OwnedTensor(type, {rows, cols}),
                 OwnedTensor(DType::f32, {rows}),
                 OwnedTensor(DType::f32, {rows}),
                 random_tensor(type, {rows, cols}, 77),
                 random_tensor(DType::f32, {cols}, 78),
                 random_tensor(DType::f32, {cols}, 79)};
    CpuOps ops(threads);
    CpuStream stream;
    if (centered) {
        ops.layer_norm_forward(stream, x, weight, bias, kEps, r.y, r.mean, r.rstd);
        ops.layer_norm_backward(stream, dy, x, weight, r.mean, r.rstd, r.dx, r.dweight, r.dbias);
    } else {
        ops.rms_norm_forward(stream, x, weight, kEps, r.y, r.rstd);
        ops.rms_norm_backward(stream, dy, x, weight, r.rstd, r.dx, r.dweight);
    }
    return r;
}

}  // namespace

TEST_CASE("norms and their gradients follow the double reference", "[core][norm]") {
    const bool centered = GENERATE(true, false);
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 3, 7);
    const int64_t cols = GENERATE(1, 5, 33, 257);
    if (centered && cols == 1) return;  // everything is zero there; the RMS norm covers it
    CAPTURE(centered, name_of(type), rows, cols);
    const OwnedTensor x = random_tensor(type, {rows, cols}, 1, -2.0, 3.0);
    const OwnedTensor weight = random_tensor(type, {cols}, 2, 0.5, 1.5);
    const OwnedTensor bias = random_tensor(type, {cols}, 3);
    const OwnedTensor dy = random_tensor(type, {rows, cols}, 4);
    const NormResult r = run_norm(centered, 1, x, weight, bias, dy);
    check_close(r.y.values(),
                norm_reference(centered, x.values(), weight.values(), bias.values(), cols),
                one_rounding(type), "output");

    // The gradient of x is added to what dx held, with one rounding of the sum.
    const Doubles dx_before = random_tensor(type, {rows, cols}, 77).values();
    const auto loss_of_x = [&](const Doubles& v) {
        return dot(dy.values(),
                   norm_reference(centered, v, weight.values(), bias.values(), cols)) +
               dot(dx_before, v);
    };
    check_gradient(loss_of_x, x.values(), r.dx.values(),
                   type == DType::bf16 ? Tolerance{1.0 / 256, 2e-5} : Tolerance{1e-5, 2e-5}, "dx");

    const Tolerance sums{1e-5, 2e-5};
    const auto loss_of_weight = [&](const Doubles& v) {
        return dot(dy.values(), norm_reference(centered, x.values(), v, bias.values(), cols));
    };
    check_gradient(loss_of_weight, weight.values(),
                   minus(r.dweight.values(), random_tensor(DType::f32, {cols}, 78).values()), sums,
                   "dweight");
    if (!centered) return;
    const auto loss_of_bias = [&](const Doubles& v) {
        return dot(dy.values(), norm_reference(centered, x.values(), weight.values(), v, cols));
    };
    check_gradient(loss_of_bias, bias.values(),
                   minus(r.dbias.values(), random_tensor(DType::f32, {cols}, 79).values()), sums,
                   "dbias");
}

TEST_CASE("a layer norm of one column gives the bias and no gradient", "[core][norm]") {
    const OwnedTensor x = random_tensor(DType::f32, {3, 1}, 1, -2.0, 3.0);
    const OwnedTensor weight(DType::f32, {1}, {2.0});
    const OwnedTensor bias(DType::f32, {1}, {0.25});
    const OwnedTensor dy = random_tensor(DType::f32, {3, 1}, 4);
    const NormResult r = run_norm(true, 1, x, weight, bias, dy);
    CHECK(r.y.values() == Doubles{0.25, 0.25, 0.25});
    CHECK(r.dx.values() == random_tensor(DType::f32, {3, 1}, 77).values());
}

TEST_CASE("a large offset of the input does not spoil the layer norm", "[core][norm]") {
    const int64_t cols = 257;
    const OwnedTensor x = random_tensor(DType::f32, {2, cols}, 1, 1000.0, 1001.0);
    const OwnedTensor weight = random_tensor(DType::f32, {cols}, 2, 0.5, 1.5);
    const OwnedTensor bias = random_tensor(DType::f32, {cols}, 3);
    const NormResult r = run_norm(true, 1, x, weight, bias, x);
    check_close(r.y.values(),
                norm_reference(true, x.values(), weight.values(), bias.values(), cols),
                {5e-4, 5e-4}, "output");  // the f32 mean itself is off by up to 3e-5
}

TEST_CASE("norms give the same bits on any number of threads", "[core][norm]") {
    const bool centered = GENERATE(true, false);
    const OwnedTensor x = random_tensor(DType::f32, {513, 257}, 1);
    const OwnedTensor weight = random_tensor(DType::f32, {257}, 2);
    const OwnedTensor dy = random_tensor(DType::f32, {513, 257}, 4);
    const NormResult one = run_norm(centered, 1, x, weight, weight, dy);
    const NormResult three = run_norm(centered, 3, x, weight, weight, dy);
    CHECK(one.y.bytes() == three.y.bytes());
    CHECK(one.dx.bytes() == three.dx.bytes());
    CHECK(one.dweight.bytes() == three.dweight.bytes());
    CHECK(one.dbias.bytes() == three.dbias.bytes());
    const auto loss = [&](const Doubles& v) {
        return dot(dy.values(),
                   norm_reference(centered, x.values(), v, weight.values(), 257));
    };
    Doubles moved = weight.values();
    const double at_zero = loss(moved);
    moved[100] += 1.0;  // the loss is linear in the weight
    CHECK(one.dweight.at(100) - random_tensor(DType::f32, {257}, 78).at(100) ==
          Approx(loss(moved) - at_zero).epsilon(1e-5));
}

TEST_CASE("norms refuse sizes that do not fit", "[core][norm]") {
    const OwnedTensor x = random_tensor(DType::f32, {2, 5}, 1);
    const OwnedTensor short_weight = random_tensor(DType::f32, {4}, 2);
    const OwnedTensor rstd(DType::f32, {2});
    const OwnedTensor y(DType::f32, {2, 5});
    CpuOps ops(1);
    CpuStream stream;
    CHECK_THROWS_AS(ops.rms_norm_forward(stream, x, short_weight, kEps, y, rstd), InternalError);
}

}  // namespace trireme::test
