#include "tests/core/test_support.h"

namespace trireme::test {

TEST_CASE("fill_zero clears exactly its tensor", "[core][elementwise]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t n = GENERATE(1, 33, 70001);
    OwnedTensor x(type, {n + 2}, Doubles(n + 2, 7.0));
    CpuOps ops(3);
    CpuStream stream;
    ops.fill_zero(stream, x.get().flat_range(1, n));
    Doubles want(n + 2, 0.0);
    want.front() = want.back() = 7.0;
    CHECK(x.values() == want);
}

TEST_CASE("copy converts between f32 and bf16 with one rounding", "[core][elementwise]") {
    const DType from = GENERATE(DType::f32, DType::bf16);
    const DType to = GENERATE(DType::f32, DType::bf16);
    const int64_t n = GENERATE(1, 33, 40001);
    const OwnedTensor x = random_tensor(from, {n}, 1);
    OwnedTensor y(to, {n});
    CpuOps ops(3);
    CpuStream stream;
    ops.copy(stream, x, y);
    CHECK(y.values() == OwnedTensor(to, {n}, x.values()).values());
}

TEST_CASE("copy to bf16 rounds halves to even and keeps what is not finite",
          "[core][elementwise]") {
    // 1 + 2^-8 and 1 + 3 * 2^-8 lie halfway between two bf16 values.
    const OwnedTensor x(DType::f32, {6},
                        {1.0 + 1.0 / 256, 1.0 + 3.0 / 256, 3.4e38, -INFINITY, -0.0, 1e-39});
    OwnedTensor y(DType::bf16, {6});
    CpuOps ops(1);
    CpuStream stream;
    ops.copy(stream, x, y);
    CHECK(y.at(0) == 1.0);
    CHECK(y.at(1) == 1.0 + 4.0 / 256);
    CHECK(y.at(2) == INFINITY);  // more than half a step above the largest bf16
    CHECK(y.at(3) == -INFINITY);
    CHECK(std::signbit(y.at(4)));
    CHECK(y.at(5) == Approx(1e-39).epsilon(0.05));  // subnormal
    const OwnedTensor nan(DType::f32, {1}, {NAN});
    OwnedTensor converted(DType::bf16, {1});
    ops.copy(stream, nan, converted);
    CHECK(std::isnan(converted.at(0)));
}

TEST_CASE("add adds to its second tensor", "[core][elementwise]") {
    const DType from = GENERATE(DType::f32, DType::bf16);
    const DType to = GENERATE(DType::f32, DType::bf16);
    const int64_t n = GENERATE(1, 33, 40001);
    const OwnedTensor x = random_tensor(from, {n}, 1);
    OwnedTensor y = random_tensor(to, {n}, 2);
    const Doubles want = plus(y.values(), x.values());
    CpuOps ops(3);
    CpuStream stream;
    ops.add(stream, x, y);
    check_close(y.values(), want, one_rounding(to), "sum");
}

TEST_CASE("sums and squared norms are exact to f64 and independent of threads",
          "[core][elementwise]") {
    const int64_t n = GENERATE(1, 7, 257, 100003);
    const OwnedTensor x = random_tensor(DType::f32, {n}, 1, -1.0, 1e4);
    double sum = 0.5;
    double squares = 0.25;
    for (double v : x.values()) {
        sum += v;
        squares += v * v;
    }
    Doubles sums;
    Doubles norms;
    for (int threads : {1, 2, 3}) {
        OwnedTensor total(DType::f64, {1}, {0.5});
        OwnedTensor norm(DType::f64, {1}, {0.25});
        CpuOps ops(threads);
        CpuStream stream;
        ops.add_sum(stream, x, total);
        ops.add_squared_norm(stream, x, norm);
        sums.push_back(total.at(0));
        norms.push_back(norm.at(0));
    }
    CHECK(sums[0] == Approx(sum).epsilon(1e-13));
    CHECK(norms[0] == Approx(squares).epsilon(1e-13));
    CHECK(sums == Doubles(3, sums[0]));
    CHECK(norms == Doubles(3, norms[0]));
}

TEST_CASE("the clip scale is at most one and passes a NaN on", "[core][elementwise]") {
    const auto scale_of = [](double squared_norm, float max_norm) {
        const OwnedTensor squared(DType::f64, {1}, {squared_norm});
        OwnedTensor scale(DType::f32, {1});
        CpuOps ops(1);
        CpuStream stream;
        ops.clip_scale(stream, squared, max_norm, scale);
        return scale.at(0);
    };
    CHECK(scale_of(16.0, 1.0f) == 0.25);
    CHECK(scale_of(0.25, 1.0f) == 1.0);
    CHECK(scale_of(0.0, 1.0f) == 1.0);
    CHECK(scale_of(16.0, 0.0f) == 1.0);
    CHECK(scale_of(16.0, -1.0f) == 1.0);
    CHECK(scale_of(INFINITY, 1.0f) == 0.0);
    CHECK(std::isnan(scale_of(NAN, 1.0f)));
}

TEST_CASE("element work on nothing does nothing", "[core][elementwise]") {
    OwnedTensor x(DType::f32, {0});
    OwnedTensor total(DType::f64, {1}, {2.0});
    CpuOps ops(2);
    CpuStream stream;
    ops.fill_zero(stream, x);
    ops.copy(stream, x, x);
    ops.add_squared_norm(stream, x, total);
    CHECK(total.at(0) == 2.0);
}

TEST_CASE("copies of different sizes are refused", "[core][elementwise]") {
    OwnedTensor x(DType::f32, {3}), y(DType::f32, {4});
    CpuOps ops(1);
    CpuStream stream;
    CHECK_THROWS_AS(ops.copy(stream, x, y), InternalError);
    CHECK_THROWS_AS(ops.add(stream, x, y), InternalError);
}

}  // namespace trireme::test
