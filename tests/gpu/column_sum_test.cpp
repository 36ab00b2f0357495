#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

TEST_CASE("the GPU adds the sums of columns, in the same order each time", "[gpu][column_sum]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    // One piece of rows or several, and the ends of pieces; packs of elements or single ones.
    const int64_t rows = GENERATE(1, 64, 261);
    const int64_t cols = GENERATE(1, 257, 264);
    CAPTURE(name_of(type), rows, cols);
    const Operation operation = [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.bias_backward(stream, t[0], t[1]);
    };
    const std::vector<OwnedTensor> tensors{random_tensor(type, {rows, cols}, 1),
                                           random_tensor(DType::f32, {cols}, 2)};
    compare_devices(tensors, {kSameValues, {1e-6, 3e-5}}, operation, "column sums");
    check_repeatable(tensors, operation);
}

TEST_CASE("the GPU sums columns that start anywhere in memory", "[gpu][column_sum]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = 130;
    const int64_t cols = 64;
    compare_devices(
        {random_tensor(type, {rows * cols + 1}, 1), random_tensor(DType::f32, {cols + 2}, 2)},
        {kSameValues, {1e-6, 1e-5}},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.bias_backward(stream, t[0].flat_range(1, rows * cols).reshaped({rows, cols}),
                              t[1].flat_range(1, cols));
        },
        "column sums");
}

TEST_CASE("sums of no rows change nothing on the GPU", "[gpu][column_sum]") {
    compare_devices(
        {OwnedTensor(DType::bf16, {0, 33}), random_tensor(DType::f32, {33}, 2)}, {kSameValues},
        [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.bias_backward(stream, t[0], t[1]);
        },
        "column sums");
}

}  // namespace trireme::test
