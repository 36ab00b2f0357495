#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

struct RopeCase {
    int64_t batch, sequence;
    int heads, kv_heads, head_dim;

    int64_t cols() const { return (heads + 2 * kv_heads) * int64_t{head_dim}; }
};

OwnedTensor make_table(int64_t positions, int head_dim) {
    const int64_t half = head_dim / 2;
    OwnedTensor table(DType::f32, {positions, 2, half});
    for (int64_t t = 0; t < positions; ++t) {
        for (int64_t i = 0; i < half; ++i) {
            const double frequency = std::pow(10000.0, -2.0 * static_cast<double>(i) / head_dim);
            const double angle = static_cast<double>(t) * frequency;
            table.set((t * 2) * half + i, std::cos(angle));
            table.set((t * 2 + 1) * half + i, std::sin(angle));
        }
    }
    return table;
}

Doubles rope_reference(const RopeCase& c, Doubles qkv) {
    const int64_t half = c.head_dim / 2;
    for (int64_t row = 0; row < c.batch * c.sequence; ++row) {
        const double position = static_cast<double>(row % c.sequence);
        for (int64_t h = 0; h < c.heads + c.kv_heads; ++h) {
            double* head = &qkv[row * c.cols() + h * c.head_dim];
            for (int64_t i = 0; i < half; ++i) {
                const double angle =
                    position * std::pow(10000.0, -2.0 * static_cast<double>(i) / c.head_dim);
                const double a = head[i];
                const double b = head[i + half];
                head[i] = a * std::cos(angle) - b * std::sin(angle);
                head[i + half] = b * std::cos(angle) + a * std::sin(angle);
            }
        }
    }
    return qkv;
}

}  // namespace

TEST_CASE("rope rotates queries and keys and leaves values alone", "[core][rope]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const RopeCase c = GENERATE(RopeCase{2, 3, 1, 1, 2}, RopeCase{3, 7, 6, 2, 10},
                                RopeCase{1, 5, 3, 3, 66});
    const OwnedTensor before = random_tensor(type, {c.batch, c.sequence, c.cols()}, 1);
    const OwnedTensor table = make_table(c.sequence + 2, c.head_dim);
    OwnedTensor qkv = before;
    CpuOps ops(2);
    CpuStream stream;
    ops.rope_forward(stream, qkv, table, c.heads, c.kv_heads, c.head_dim);
    check_close(qkv.values(), rope_reference(c, before.values()), one_rounding(type), "rope");
    for (int64_t row = 0; row < c.batch * c.sequence; ++row) {
        const int64_t values = c.cols() * row + (c.heads + c.kv_heads) * c.head_dim;
        for (int64_t i = 0; i < c.kv_heads * c.head_dim; ++i) {
            REQUIRE(qkv.at(values + i) == before.at(values + i));
        }
    }

    const OwnedTensor dy = random_tensor(type, {c.batch, c.sequence, c.cols()}, 2);
    OwnedTensor dqkv = dy;
    ops.rope_backward(stream, dqkv, table, c.heads, c.kv_heads, c.head_dim);
    const auto loss = [&](const Doubles& v) { return dot(dy.values(), rope_reference(c, v)); };
    check_gradient(loss, before.values(), dqkv.values(), one_rounding(type), "rope");
}

TEST_CASE("rope refuses a table that is too short for the sequence", "[core][rope]") {
    const OwnedTensor qkv = random_tensor(DType::f32, {1, 5, 12}, 1);
    const OwnedTensor table = make_table(4, 4);
    CpuOps ops(1);
    CpuStream stream;
    CHECK_THROWS_AS(ops.rope_forward(stream, qkv, table, 1, 1, 4), InternalError);
}

}  // namespace trireme::test
