#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

constexpr float kEps = 1e-5f;

Dropout make_dropout(float probability) {
    return {probability, make_key(11, "residual"), 42, 1003};
}

Doubles factors_of(const Dropout& dropout, int64_t count) {
    Doubles factors;
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t word = philox_word(dropout.key, dropout.stream,
                                          dropout.first_element + static_cast<uint64_t>(i));
        const bool kept = uniform_from_bits(word) >= dropout.probability;
        factors.push_back(kept ? 1.0 / (1.0 - double{dropout.probability}) : 0.0);
    }
    return factors;
}

Doubles sum_reference(const Doubles& residual, const Doubles& y, const Doubles& bias,
                      const Doubles& factors) {
    Doubles sum;
    for (size_t i = 0; i < y.size(); ++i) {
        const double of_bias = bias.empty() ? 0.0 : bias[i % bias.size()];
        sum.push_back(residual[i] + factors[i] * (y[i] + of_bias));
    }
    return sum;
}

Doubles norm_reference(bool centered, const Doubles& x, const Doubles& weight,
                       const Doubles& bias) {
    const size_t cols = weight.size();
    const auto count = static_cast<double>(cols);
    Doubles y;
    for (size_t row = 0; row < x.size(); row += cols) {
        double mean = 0.0, variance = 0.0;
        for (size_t c = 0; c < cols && centered; ++c) mean += x[row + c] / count;
        for (size_t c = 0; c < cols; ++c) {
            variance += (x[row + c] - mean) * (x[row + c] - mean) / count;
        }
        for (size_t c = 0; c < cols; ++c) {
            y.push_back((x[row + c] - mean) / std::sqrt(variance + double{kEps}) * weight[c] +
                        (centered ? bias[c] : 0.0));
        }
    }
    return y;
}

// The tensors of one call. Given: residual, addend, its bias, the norm's weight and bias.
struct Call {
    bool centered;
    Dropout dropout;
    bool with_bias;
    OwnedTensor residual, addend, bias, weight, norm_bias;
    OwnedTensor sum, y, mean, rstd;

    Call(bool is_centered, DType type, int64_t rows, int64_t cols, bool has_bias,
         const Dropout& mask)
        : centered(is_centered),
          dropout(mask),
          with_bias(has_bias),
          residual(random_tensor(type, {rows, cols}, 1, -2.0, 3.0)),
          addend(random_tensor(type, {rows, cols}, 2)),
          bias(random_tensor(type, {cols}, 3)),
          weight(random_tensor(type, {cols}, 4, 0.5, 1.5)),
          norm_bias(random_tensor(type, {cols}, 5)),
          sum(type, {rows, cols}),
          y(type, {rows, cols}),
          mean(DType::f32, {rows}),
          rstd(DType::f32, {rows}) {}

    Tensor given_bias() const { return with_bias ? bias.get() : Tensor(); }

    void run(Ops& ops, const Tensor& out) const {
        CpuStream stream;
        const ResidualAdd add{residual, addend, given_bias(), dropout, out};
        if (centered) {
            ops.residual_add_layer_norm_forward(stream, add, weight, norm_bias, kEps, y, mean,
                                                rstd);
        } else {
            ops.residual_add_rms_norm_forward(stream, add, weight, kEps, y, rstd);
        }
    }
    void run_one_after_the_other(Ops& ops, const Tensor& out) const {
        CpuStream stream;
        ops.residual_add_forward(stream, {residual, addend, given_bias(), dropout, out});
        if (centered) {
            ops.layer_norm_forward(stream, out, weight, norm_bias, kEps, y, mean, rstd);
        } else {
            ops.rms_norm_forward(stream, out, weight, kEps, y, rstd);
        }
    }
};

}  // namespace

TEST_CASE("a residual add with the norm of its sum follows the double reference",
          "[core][residual][norm]") {
    const bool centered = GENERATE(true, false);
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 3, 7);
    const int64_t cols = GENERATE(5, 33, 257);
    const bool with_bias = GENERATE(true, false);
    const Dropout dropout = make_dropout(GENERATE(0.0f, 0.25f));
    CAPTURE(centered, name_of(type), rows, cols, with_bias, dropout.probability);
    const Call call(centered, type, rows, cols, with_bias, dropout);
    CpuOps ops(1);
    call.run(ops, call.sum);
    check_close(
        call.sum.values(),
        sum_reference(call.residual.values(), call.addend.values(),
                      with_bias ? call.bias.values() : Doubles(), factors_of(dropout, rows * cols)),
        one_rounding(type), "sum");
    // Of the sum as it is stored.
    check_close(
        call.y.values(),
        norm_reference(centered, call.sum.values(), call.weight.values(), call.norm_bias.values()),
        one_rounding(type), "norm");
}

TEST_CASE("a residual add with the norm of its sum gives the bits of both, in place too",
          "[core][residual][norm]") {
    const bool centered = GENERATE(true, false);
    const DType type = GENERATE(DType::f32, DType::bf16);
    // The last with enough rows for three threads.
    const auto [rows, cols] =
        GENERATE(std::pair{1, 1}, std::pair{3, 33}, std::pair{5, 515}, std::pair{200, 257});
    const bool with_bias = GENERATE(true, false);
    const Dropout dropout = make_dropout(GENERATE(0.0f, 0.25f));
    CAPTURE(centered, name_of(type), rows, cols, with_bias, dropout.probability);
    CpuOps one(1), three(3);
    const Call want(centered, type, rows, cols, with_bias, dropout);
    want.run_one_after_the_other(one, want.sum);
    for (const int place : {0, 1, 2}) {
        const Call call(centered, type, rows, cols, with_bias, dropout);
        const OwnedTensor& out = place == 0 ? call.sum : place == 1 ? call.residual : call.addend;
        call.run(place == 0 ? three : one, out);
        const bool same_bits =
            out.bytes() == want.sum.bytes() && call.y.bytes() == want.y.bytes() &&
            call.mean.bytes() == want.mean.bytes() && call.rstd.bytes() == want.rstd.bytes();
        CHECK(same_bits);
    }
}

TEST_CASE("gradients through a residual add with a norm are those of finite differences",
          "[core][residual][norm]") {
    const bool centered = GENERATE(true, false);
    const int64_t rows = 3, cols = GENERATE(5, 257);
    const Dropout dropout = make_dropout(GENERATE(0.0f, 0.25f));
    CAPTURE(centered, cols, dropout.probability);
    const Call call(centered, DType::f32, rows, cols, true, dropout);
    CpuOps ops(1);
    CpuStream stream;
    call.run(ops, call.sum);

    const OwnedTensor dy = random_tensor(DType::f32, {rows, cols}, 6);
    const OwnedTensor dsum = random_tensor(DType::f32, {rows, cols}, 7);
    const OwnedTensor dresidual = dsum;
    OwnedTensor daddend(DType::f32, {rows, cols});
    const OwnedTensor dbias(DType::f32, {cols}), dweight(DType::f32, {cols}),
        dnorm_bias(DType::f32, {cols});
    if (centered) {
        ops.layer_norm_backward(stream, dy, call.sum, call.weight, call.mean, call.rstd, dresidual,
                                dweight, dnorm_bias);
    } else {
        ops.rms_norm_backward(stream, dy, call.sum, call.weight, call.rstd, dresidual, dweight);
    }
    ops.dropout_apply(stream, dresidual, dropout, daddend);
    ops.bias_backward(stream, daddend, dbias);

    const Doubles factors = factors_of(dropout, rows * cols);
    const auto loss = [&](const Doubles& residual, const Doubles& addend, const Doubles& bias) {
        const Doubles sum = sum_reference(residual, addend, bias, factors);
        return dot(dsum.values(), sum) +
               dot(dy.values(),
                   norm_reference(centered, sum, call.weight.values(), call.norm_bias.values()));
    };
    const Doubles residual = call.residual.values(), addend = call.addend.values(),
                  bias = call.bias.values();
    const Tolerance tolerance{1e-5, 3e-5};
    check_gradient([&](const Doubles& v) { return loss(v, addend, bias); }, residual,
                   dresidual.values(), tolerance, "residual");
    check_gradient([&](const Doubles& v) { return loss(residual, v, bias); }, addend,
                   daddend.values(), tolerance, "addend");
    check_gradient([&](const Doubles& v) { return loss(residual, addend, v); }, bias,
                   dbias.values(), tolerance, "bias");
}

TEST_CASE("a residual add with a norm refuses what either refuses", "[core][residual][norm]") {
    CpuOps ops(1);
    CpuStream stream;
    const Call call(true, DType::f32, 3, 8, true, make_dropout(0.0f));
    const ResidualAdd add{call.residual, call.addend, call.bias, call.dropout, call.sum};
    const OwnedTensor short_weight(DType::f32, {4});
    CHECK_THROWS_AS(
        ops.residual_add_rms_norm_forward(stream, add, short_weight, kEps, call.y, call.rstd),
        InternalError);
    CHECK_THROWS_AS(ops.residual_add_layer_norm_forward(stream, add, call.weight, short_weight,
                                                        kEps, call.y, call.mean, call.rstd),
                    InternalError);
    ResidualAdd wrong = add;
    wrong.bias = short_weight;
    CHECK_THROWS_AS(
        ops.residual_add_rms_norm_forward(stream, wrong, call.weight, kEps, call.y, call.rstd),
        InternalError);
    wrong = add;
    wrong.dropout = make_dropout(1.0f);
    CHECK_THROWS_AS(
        ops.residual_add_rms_norm_forward(stream, wrong, call.weight, kEps, call.y, call.rstd),
        InternalError);
}

}  // namespace trireme::test
