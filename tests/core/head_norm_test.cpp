#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

constexpr float kEps = 1e-5f;

struct HeadNormCase {
    int64_t rows;
    int heads, kv_heads;
    int64_t head_dim;

    int64_t cols() const { return (heads + 2 * kv_heads) * head_dim; }
};

Doubles head_norm_reference(const HeadNormCase& c, Doubles qkv, const Doubles& query_weight,
                            const Doubles& key_weight) {
    for (int64_t row = 0; row < c.rows; ++row) {
        for (int64_t h = 0; h < c.heads + c.kv_heads; ++h) {
            double* head = &qkv[row * c.cols() + h * c.head_dim];
            double mean_square = 0.0;
            for (int64_t i = 0; i < c.head_dim; ++i) {
                mean_square += head[i] * head[i] / static_cast<double>(c.head_dim);
            }
            for (int64_t i = 0; i < c.head_dim; ++i) {
                head[i] *= (h < c.heads ? query_weight : key_weight)[i] /
                           std::sqrt(mean_square + double{kEps});
            }
        }
    }
    return qkv;
}

struct HeadNormInput {
    OwnedTensor qkv, query_weight, key_weight, dy;

    HeadNormInput(DType type, const HeadNormCase& c)
        : qkv(random_tensor(type, {c.rows, c.cols()}, 1, -2.0, 3.0)),
          query_weight(random_tensor(type, {c.head_dim}, 2, 0.5, 1.5)),
          key_weight(random_tensor(type, {c.head_dim}, 3, 0.5, 1.5)),
          dy(random_tensor(type, {c.rows, c.cols()}, 4)) {}
};

struct HeadNormResult {
    OwnedTensor out, dqkv, dquery_weight, dkey_weight;
};

HeadNormResult run_head_norm(int threads, const HeadNormCase& c, const HeadNormInput& in) {
    HeadNormResult r{OwnedTensor(in.qkv.get().dtype, in.qkv.get().shape), in.dy,
                     random_tensor(DType::f32, {c.head_dim}, 78),
                     random_tensor(DType::f32, {c.head_dim}, 79)};
    CpuOps ops(threads);
    CpuStream stream;
    ops.head_norm_forward(stream, in.qkv, in.query_weight, in.key_weight, kEps, c.heads, c.kv_heads,
                          r.out);
    ops.head_norm_backward(stream, in.qkv, in.query_weight, in.key_weight, kEps, c.heads,
                           c.kv_heads, r.dqkv, r.dquery_weight, r.dkey_weight);
    return r;
}

}  // namespace

TEST_CASE("norms of heads and their gradients follow the double reference", "[core][head_norm]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const HeadNormCase c = GENERATE(HeadNormCase{1, 1, 1, 1}, HeadNormCase{3, 6, 2, 10},
                                    HeadNormCase{2, 3, 3, 33}, HeadNormCase{2, 1, 0, 64});
    CAPTURE(name_of(type), c.rows, c.heads, c.head_dim);
    const HeadNormInput in(type, c);
    const HeadNormResult r = run_head_norm(1, c, in);
    const auto reference = [&](const Doubles& qkv, const Doubles& query, const Doubles& key) {
        return head_norm_reference(c, qkv, query, key);
    };
    const Doubles qkv = in.qkv.values();
    const Doubles query = in.query_weight.values(), key = in.key_weight.values();
    check_close(r.out.values(), reference(qkv, query, key), one_rounding(type), "output");
    for (int64_t row = 0; row < c.rows; ++row) {
        for (int64_t i = (c.heads + c.kv_heads) * c.head_dim; i < c.cols(); ++i) {
            REQUIRE(r.out.at(row * c.cols() + i) == in.qkv.at(row * c.cols() + i));
        }
    }
    const Doubles dy = in.dy.values();
    check_gradient(
        [&](const Doubles& v) { return dot(dy, reference(v, query, key)); }, qkv, r.dqkv.values(),
        type == DType::bf16 ? Tolerance{1.0 / 256, 2e-5} : Tolerance{1e-5, 2e-5}, "dqkv");
    const Tolerance sums{1e-5, 2e-5};
    check_gradient(
        [&](const Doubles& v) { return dot(dy, reference(qkv, v, key)); }, query,
        minus(r.dquery_weight.values(), random_tensor(DType::f32, {c.head_dim}, 78).values()), sums,
        "dquery_weight");
    check_gradient(
        [&](const Doubles& v) { return dot(dy, reference(qkv, query, v)); }, key,
        minus(r.dkey_weight.values(), random_tensor(DType::f32, {c.head_dim}, 79).values()), sums,
        "dkey_weight");
}

TEST_CASE("norms of heads give the same bits on any number of threads", "[core][head_norm]") {
    const HeadNormCase c{517, 6, 2, 10};
    const HeadNormInput in(DType::f32, c);
    const HeadNormResult one = run_head_norm(1, c, in);
    const HeadNormResult three = run_head_norm(3, c, in);
    CHECK(one.out.bytes() == three.out.bytes());
    CHECK(one.dqkv.bytes() == three.dqkv.bytes());
    CHECK(one.dquery_weight.bytes() == three.dquery_weight.bytes());
    CHECK(one.dkey_weight.bytes() == three.dkey_weight.bytes());
}

TEST_CASE("norms of heads refuse sizes that do not fit", "[core][head_norm]") {
    const HeadNormCase c{2, 6, 2, 10};
    const HeadNormInput in(DType::f32, c);
    const OwnedTensor out(DType::f32, {c.rows, c.cols()});
    CpuOps ops(1);
    CpuStream stream;
    CHECK_THROWS_AS(
        ops.head_norm_forward(stream, in.qkv, in.query_weight, in.key_weight, kEps, 5, 2, out),
        InternalError);
    CHECK_THROWS_AS(
        ops.head_norm_forward(stream, in.qkv, in.query_weight, in.key_weight, kEps, 6, 2, in.qkv),
        InternalError);
}

}  // namespace trireme::test
