#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

struct RopeCase {
    int64_t batch, sequence;
    int heads, kv_heads, head_dim;
    int64_t offset;  // of qkv in its tensor

    int64_t cols() const { return (heads + 2 * kv_heads) * int64_t{head_dim}; }
    int64_t elements() const { return batch * sequence * cols(); }
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

}  // namespace

TEST_CASE("the GPU rotates queries and keys as the CPU does, forward and back", "[gpu][rope]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const bool forward = GENERATE(true, false);
    // Even and odd halves, grouped queries, positions beyond one sequence, one head, more packs
    // than threads (1026 / 2 elements one by one) and views that are not aligned.
    const RopeCase c = GENERATE(RopeCase{1, 1, 1, 1, 2, 0}, RopeCase{2, 7, 6, 2, 10, 0},
                                RopeCase{2, 5, 6, 2, 64, 0}, RopeCase{2, 3, 6, 2, 64, 1},
                                RopeCase{1, 3, 25, 25, 64, 0}, RopeCase{2, 2, 1, 1, 1026, 0},
                                RopeCase{3, 2, 2, 1, 128, 8}, RopeCase{1, 2, 0, 2, 16, 0});
    CAPTURE(name_of(type), forward, c.batch, c.sequence, c.heads, c.head_dim, c.offset);
    compare_devices(
        {random_tensor(type, {c.offset + c.elements()}, 1), make_table(c.sequence + 2, c.head_dim)},
        {one_step(type), kSameValues},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            const Tensor qkv =
                t[0].flat_range(c.offset, c.elements()).reshaped({c.batch, c.sequence, c.cols()});
            if (forward) {
                ops.rope_forward(stream, qkv, t[1], c.heads, c.kv_heads, c.head_dim);
            } else {
                ops.rope_backward(stream, qkv, t[1], c.heads, c.kv_heads, c.head_dim);
            }
        },
        "rope");
}

TEST_CASE("the GPU's rope leaves the values alone, and back undoes forward", "[gpu][rope]") {
    const RopeCase c{2, 5, 6, 2, 10, 0};
    const OwnedTensor before = random_tensor(DType::f32, {c.batch, c.sequence, c.cols()}, 1);
    const GpuTensor qkv(before);
    const GpuTensor table(make_table(c.sequence, c.head_dim));
    Ops& ops = gpu().ops();
    ops.rope_forward(gpu().compute(), qkv.get(), table.get(), c.heads, c.kv_heads, c.head_dim);
    const OwnedTensor rotated = qkv.download();
    for (int64_t row = 0; row < c.batch * c.sequence; ++row) {
        const int64_t values = c.cols() * row + (c.heads + c.kv_heads) * c.head_dim;
        for (int64_t i = 0; i < c.kv_heads * c.head_dim; ++i) {
            REQUIRE(rotated.at(values + i) == before.at(values + i));
        }
    }
    CHECK(rotated.at(c.cols()) != before.at(c.cols()));  // position 1, first query
    ops.rope_backward(gpu().compute(), qkv.get(), table.get(), c.heads, c.kv_heads, c.head_dim);
    check_close(qkv.download().values(), before.values(), one_step(DType::f32), "there and back");
}

TEST_CASE("the GPU's rope takes an empty batch and refuses a short table", "[gpu][rope]") {
    const GpuTensor table(make_table(4, 4));
    Ops& ops = gpu().ops();
    ops.rope_forward(gpu().compute(), Tensor(nullptr, DType::bf16, {0, 4, 12}), table.get(), 1, 1,
                     4);
    const GpuTensor qkv(random_tensor(DType::f32, {1, 5, 12}, 1));
    CHECK_THROWS_AS(ops.rope_forward(gpu().compute(), qkv.get(), table.get(), 1, 1, 4),
                    InternalError);
}

}  // namespace trireme::test
