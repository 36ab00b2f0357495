#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

Dropout make_dropout(float probability, uint64_t first_element) {
    return {probability, make_key(11, "residual"), 42, first_element};
}

double factor_of(const Dropout& dropout, int64_t i) {
    const uint32_t word =
        philox_word(dropout.key, dropout.stream, dropout.first_element + static_cast<uint64_t>(i));
    const bool kept = uniform_from_bits(word) >= dropout.probability;
    return kept ? 1.0 / (1.0 - double{dropout.probability}) : 0.0;
}

}  // namespace

TEST_CASE("residual add follows the double reference, with and without bias and dropout",
          "[core][residual]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 3, 7);
    const int64_t cols = GENERATE(1, 5, 33, 257, 515);
    const bool with_bias = GENERATE(true, false);
    const Dropout dropout = make_dropout(GENERATE(0.0f, 0.25f), GENERATE(0u, 1003u));
    const OwnedTensor residual = random_tensor(type, {rows, cols}, 1);
    const OwnedTensor y = random_tensor(type, {rows, cols}, 2);
    const OwnedTensor bias = random_tensor(type, {cols}, 3);
    OwnedTensor out(type, {rows, cols});
    OwnedTensor over_residual = residual;
    OwnedTensor over_y = y;
    CpuOps ops(2);
    CpuStream stream;
    const Tensor given = with_bias ? bias.get() : Tensor();
    ops.residual_add_forward(stream, {residual, y, given, dropout, out});
    ops.residual_add_forward(stream, {over_residual, y, given, dropout, over_residual});
    ops.residual_add_forward(stream, {residual, over_y, given, dropout, over_y});
    Doubles want;
    for (int64_t i = 0; i < rows * cols; ++i) {
        const double addend = y.at(i) + (with_bias ? bias.at(i % cols) : 0.0);
        want.push_back(residual.at(i) + factor_of(dropout, i) * addend);
    }
    check_close(out.values(), want, one_rounding(type), "sum");
    CHECK(over_residual.values() == out.values());
    CHECK(over_y.values() == out.values());

    OwnedTensor gradient = y;
    ops.dropout_apply(stream, gradient, dropout, gradient);
    for (int64_t i = 0; i < rows * cols; ++i) want[i] = factor_of(dropout, i) * y.at(i);
    check_close(gradient.values(), want, one_rounding(type), "gradient");
}

TEST_CASE("dropout of two parts with their offsets equals dropout of the whole",
          "[core][residual][dropout]") {
    const OwnedTensor x = random_tensor(DType::f32, {129, 257}, 1, 1.0, 2.0);
    OwnedTensor whole(DType::f32, {129, 257}), parts = whole;
    CpuOps one(1), three(3);
    CpuStream stream;
    one.dropout_apply(stream, x, make_dropout(0.1f, 5), whole);
    for (const auto& [begin, count] : {std::pair{0, 50}, std::pair{50, 79}}) {
        three.dropout_apply(stream, x.get().row_range(begin, count),
                            make_dropout(0.1f, 5 + static_cast<uint64_t>(begin) * 257),
                            parts.get().row_range(begin, count));
    }
    CHECK(whole.bytes() == parts.bytes());
}

TEST_CASE("dropout keeps the asked share", "[core][residual][dropout]") {
    const float probability = GENERATE(0.1f, 0.5f, 0.9f);
    const int64_t n = 100000;
    OwnedTensor x(DType::f32, {n}, Doubles(n, 1.0));
    CpuOps ops(1);
    CpuStream stream;
    ops.dropout_apply(stream, x, make_dropout(probability, 0), x);
    double kept = 0.0;
    double sum = 0.0;
    for (double v : x.values()) {
        kept += v != 0.0 ? 1.0 : 0.0;
        sum += v;
    }
    CHECK(kept / n == Approx(1.0 - probability).margin(0.008));  // five standard deviations
    CHECK(sum == Approx(kept / (1.0 - probability)).epsilon(1e-5));
}

TEST_CASE("a dropout probability of one is refused", "[core][residual][dropout]") {
    OwnedTensor x(DType::f32, {3});
    CpuOps ops(1);
    CpuStream stream;
    CHECK_THROWS_AS(ops.dropout_apply(stream, x, make_dropout(1.0f, 0), x), InternalError);
}

}  // namespace trireme::test
