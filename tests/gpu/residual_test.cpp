#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

Dropout make_dropout(float probability, uint64_t first_element) {
    // A stream beyond 32 bits: its upper half counts too.
    return {probability, make_key(11, "residual"), (uint64_t{3} << 32) + 42, first_element};
}

struct ResidualCase {
    int64_t rows, cols;
    int64_t offset;  // of the views in their tensors

    int64_t elements() const { return rows * cols; }
    Tensor view(const Tensor& flat) const {
        return flat.flat_range(offset, elements()).reshaped({rows, cols});
    }
};

ResidualCase generate_case() {
    return GENERATE(ResidualCase{1, 1, 0}, ResidualCase{3, 257, 0}, ResidualCase{7, 32, 0},
                    ResidualCase{3, 96, 1}, ResidualCase{67, 40, 0}, ResidualCase{2, 2056, 8});
}

// Elements that start at each place of a Philox block, and block indices beyond 32 bits.
uint64_t generate_first_element() {
    return GENERATE(uint64_t{0}, uint64_t{1}, uint64_t{1002}, uint64_t{1003},
                    (uint64_t{1} << 34) - 3);
}

}  // namespace

TEST_CASE("the GPU drops exactly the elements that the CPU drops", "[gpu][residual]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const ResidualCase c = generate_case();
    const Dropout dropout = make_dropout(0.3f, generate_first_element());
    CAPTURE(name_of(type), c.rows, c.cols, c.offset, dropout.first_element);
    const int64_t flat_size = c.offset + c.elements();
    compare_devices(
        {random_tensor(type, {flat_size}, 1, 1.0, 2.0), OwnedTensor(type, {flat_size})},
        {kSameValues},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.dropout_apply(stream, c.view(t[0]), dropout, c.view(t[1]));
            ops.dropout_apply(stream, c.view(t[0]), dropout, c.view(t[0]));
        },
        "dropped");
}

TEST_CASE("a dropout of probability 0 on the GPU copies", "[gpu][residual]") {
    const OwnedTensor x = random_tensor(DType::bf16, {3, 5}, 1);
    const GpuTensor from(x);
    const GpuTensor to(OwnedTensor(DType::bf16, {3, 5}));
    gpu().ops().dropout_apply(gpu().compute(), from.get(), make_dropout(0.0f, 3), to.get());
    gpu().ops().dropout_apply(gpu().compute(), to.get(), make_dropout(0.0f, 3), to.get());
    CHECK(to.download().values() == x.values());
}

TEST_CASE("the GPU's residual add is the CPU's, in place too", "[gpu][residual]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const ResidualCase c = generate_case();
    const bool with_bias = GENERATE(true, false);
    const Dropout dropout = make_dropout(GENERATE(0.0f, 0.3f), GENERATE(0u, 1003u));
    CAPTURE(name_of(type), c.rows, c.cols, c.offset, with_bias, dropout.probability,
            dropout.first_element);
    const int64_t flat_size = c.offset + c.elements();
    // Without dropout there are only sums, which both round alike.
    const Tolerance tolerance = dropout.probability == 0.0f ? kSameValues : one_step(type);
    compare_devices(
        {random_tensor(type, {flat_size}, 1), random_tensor(type, {flat_size}, 2),
         random_tensor(type, {c.cols}, 3), OwnedTensor(type, {flat_size}),
         random_tensor(type, {flat_size}, 4)},
        {tolerance},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            const Tensor bias = with_bias ? t[2] : Tensor();
            const Tensor residual = c.view(t[0]);
            const Tensor y = c.view(t[1]);
            const Tensor other = c.view(t[4]);
            ops.residual_add_forward(stream, {residual, y, bias, dropout, c.view(t[3])});
            ops.residual_add_forward(stream, {residual, other, bias, dropout, other});
            ops.residual_add_forward(stream, {residual, y, bias, dropout, residual});
        },
        "sum");
}

TEST_CASE("residual add and dropout on the GPU draw one mask", "[gpu][residual]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Dropout dropout = make_dropout(0.5f, generate_first_element());
    const OwnedTensor ones(type, {5, 48}, Doubles(5 * 48, 1.0));
    const GpuTensor x(ones);
    const GpuTensor zeros(OwnedTensor(type, {5, 48}, Doubles(5 * 48, 0.0)));
    gpu().ops().residual_add_forward(gpu().compute(),
                                     {zeros.get(), x.get(), Tensor(), dropout, zeros.get()});
    gpu().ops().dropout_apply(gpu().compute(), x.get(), dropout, x.get());
    const Doubles factors = x.download().values();
    CHECK(zeros.download().values() == factors);
    for (size_t i = 0; i < factors.size(); ++i) {
        const uint32_t word =
            philox_word(dropout.key, dropout.stream, dropout.first_element + uint64_t{i});
        REQUIRE(factors[i] == (uniform_from_bits(word) >= 0.5f ? 2.0 : 0.0));
    }
}

TEST_CASE("the GPU's residual add takes no rows and refuses a probability of one",
          "[gpu][residual]") {
    const Tensor none(nullptr, DType::f32, {0, 8});
    Ops& ops = gpu().ops();
    ops.residual_add_forward(gpu().compute(), {none, none, Tensor(), make_dropout(0.5f, 0), none});
    ops.dropout_apply(gpu().compute(), none, make_dropout(0.5f, 0), none);
    const GpuTensor x(random_tensor(DType::f32, {3}, 1));
    CHECK_THROWS_AS(ops.dropout_apply(gpu().compute(), x.get(), make_dropout(1.0f, 0), x.get()),
                    InternalError);
}

}  // namespace trireme::test
