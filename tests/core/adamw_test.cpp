#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

struct AdamWState {
    Doubles master, m, v;
};

void step_reference(const AdamWStep& s, const Doubles& grad, double grad_scale, AdamWState& state) {
    for (size_t i = 0; i < grad.size(); ++i) {
        const double g = grad[i] * grad_scale;
        const double beta1 = s.beta1;
        const double beta2 = s.beta2;
        const double t = static_cast<double>(s.step);
        state.m[i] = beta1 * state.m[i] + (1.0 - beta1) * g;
        state.v[i] = beta2 * state.v[i] + (1.0 - beta2) * g * g;
        const double m_hat = state.m[i] / (1.0 - std::pow(beta1, t));
        const double v_hat = state.v[i] / (1.0 - std::pow(beta2, t));
        state.master[i] -= double{s.lr} * (m_hat / (std::sqrt(v_hat) + double{s.eps}) +
                                           double{s.weight_decay} * state.master[i]);
    }
}

AdamWStep make_step(int64_t step) {
    AdamWStep s;
    s.lr = 1e-2f;
    s.beta1 = 0.9f;
    s.beta2 = 0.95f;
    s.eps = 1e-8f;
    s.weight_decay = 0.1f;
    s.step = step;
    return s;
}

}  // namespace

TEST_CASE("ten AdamW steps follow the double reference", "[core][adamw]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const bool in_place = type == DType::f32 && GENERATE(true, false);
    const int64_t n = GENERATE(1, 33, 257, 50001);
    OwnedTensor master = random_tensor(DType::f32, {n}, 1);
    OwnedTensor m(DType::f32, {n}), v(DType::f32, {n}), param(type, {n});
    const OwnedTensor scale(DType::f32, {1}, {0.5});
    AdamWState want{master.values(), Doubles(n, 0.0), Doubles(n, 0.0)};
    CpuOps ops(3);
    CpuStream stream;
    for (int64_t step = 1; step <= 10; ++step) {
        const OwnedTensor grad =
            random_tensor(DType::f32, {n}, 100 + static_cast<uint64_t>(step), -1.0, 1.5);
        ops.adamw(stream, make_step(step), grad, scale, master, m, v, in_place ? master : param);
        step_reference(make_step(step), grad.values(), 0.5, want);
    }
    check_close(master.values(), want.master, {1e-6, 1e-6}, "weights");
    check_close(m.values(), want.m, {1e-6, 1e-7}, "first moment");
    check_close(v.values(), want.v, {2e-6, 1e-8}, "second moment");
    if (!in_place) {
        CHECK(param.values() == OwnedTensor(type, {n}, master.values()).values());
    }
}

TEST_CASE("AdamW moves a weight without gradient by its decay alone", "[core][adamw]") {
    OwnedTensor master(DType::f32, {1}, {2.0}), m(DType::f32, {1}), v(DType::f32, {1});
    const OwnedTensor grad(DType::f32, {1}), scale(DType::f32, {1}, {1.0});
    CpuOps ops(1);
    CpuStream stream;
    ops.adamw(stream, make_step(1), grad, scale, master, m, v, master);
    CHECK(master.at(0) == Approx(2.0 - 0.01 * 0.1 * 2.0));
}

TEST_CASE("AdamW refuses step zero and moments of another size", "[core][adamw]") {
    OwnedTensor master(DType::f32, {3}), m(DType::f32, {3}), v(DType::f32, {2});
    const OwnedTensor grad(DType::f32, {3}), scale(DType::f32, {1}, {1.0});
    CpuOps ops(1);
    CpuStream stream;
    CHECK_THROWS_AS(ops.adamw(stream, make_step(0), grad, scale, master, m, m, master),
                    InternalError);
    CHECK_THROWS_AS(ops.adamw(stream, make_step(1), grad, scale, master, m, v, master),
                    InternalError);
}

}  // namespace trireme::test
