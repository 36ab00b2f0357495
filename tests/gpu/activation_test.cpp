#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

struct MatrixCase {
    int64_t rows, cols;
    int64_t offset;  // of the views in their tensors: not 0 for addresses that are not aligned
};

// Views of this case's size in tensors of flat_size elements.
Tensor view(const Tensor& flat, const MatrixCase& c, int64_t cols) {
    return flat.flat_range(c.offset, c.rows * cols).reshaped({c.rows, cols});
}

MatrixCase generate_case() {
    return GENERATE(MatrixCase{1, 1, 0}, MatrixCase{3, 257, 0}, MatrixCase{7, 32, 0},
                    MatrixCase{5, 40, 3}, MatrixCase{2, 96, 8}, MatrixCase{67, 40, 0},
                    MatrixCase{1, 4104, 0});
}

}  // namespace

TEST_CASE("the GPU's gelu and its gradient are the CPU's, in place too", "[gpu][activation]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const MatrixCase c = generate_case();
    CAPTURE(name_of(type), c.rows, c.cols, c.offset);
    const int64_t flat_size = c.offset + c.rows * c.cols;
    compare_devices(
        {random_tensor(type, {flat_size}, 1, -6.0, 6.0), random_tensor(type, {flat_size}, 2),
         OwnedTensor(type, {flat_size}), OwnedTensor(type, {flat_size})},
        {one_step(type)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            const Tensor x = view(t[0], c, c.cols);
            const Tensor dy = view(t[1], c, c.cols);
            ops.gelu_forward(stream, x, view(t[2], c, c.cols));
            ops.gelu_backward(stream, dy, x, view(t[3], c, c.cols));
            ops.gelu_backward(stream, dy, x, dy);
        },
        "gelu");
}

TEST_CASE("the GPU's gelu and its gradient hold far out, and NaN stays NaN", "[gpu][activation]") {
    const OwnedTensor x(DType::f32, {8}, {1e30, -1e30, 3e38, 50.0, -50.0, 0.0, 1e-30, 100.0});
    compare_devices(
        {x, OwnedTensor(DType::f32, {8}, Doubles(8, 1.0)), OwnedTensor(DType::f32, {8}),
         OwnedTensor(DType::f32, {8})},
        {one_step(DType::f32)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.gelu_forward(stream, t[0], t[2]);
            ops.gelu_backward(stream, t[1], t[0], t[3]);
        },
        "gelu far out");
    const GpuTensor nan(OwnedTensor(DType::bf16, {3}, {1.0, NAN, 2.0}));
    gpu().ops().gelu_forward(gpu().compute(), nan.get(), nan.get());
    CHECK(std::isnan(nan.download().at(1)));
    CHECK_FALSE(std::isnan(nan.download().at(2)));
}

TEST_CASE("the GPU's swiglu and its gradient are the CPU's, in place too", "[gpu][activation]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const MatrixCase c = generate_case();
    CAPTURE(name_of(type), c.rows, c.cols, c.offset);
    const int64_t flat_size = c.offset + c.rows * c.cols;
    const int64_t wide_size = c.offset + 2 * c.rows * c.cols;
    compare_devices(
        {random_tensor(type, {wide_size}, 1, -6.0, 6.0), random_tensor(type, {flat_size}, 2),
         OwnedTensor(type, {flat_size}), OwnedTensor(type, {wide_size})},
        {one_step(type)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            const Tensor gate_up = view(t[0], c, 2 * c.cols);
            const Tensor dy = view(t[1], c, c.cols);
            ops.swiglu_forward(stream, gate_up, view(t[2], c, c.cols));
            ops.swiglu_backward(stream, dy, gate_up, view(t[3], c, 2 * c.cols));
            ops.swiglu_backward(stream, dy, gate_up, gate_up);
        },
        "swiglu");
}

TEST_CASE("a row grid covers every row and pack, however many there are", "[gpu][activation]") {
    // More rows than one pass of the largest grid takes, so that its threads loop.
    const int64_t rows = 132 * 16 * 256 + 3;
    compare_devices(
        {random_tensor(DType::f32, {rows, 2}, 1), OwnedTensor(DType::f32, {rows, 1})},
        {one_step(DType::f32)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.swiglu_forward(stream, t[0], t[1]);
        },
        "swiglu of many rows");
}

TEST_CASE("the GPU's activations take tensors without rows and refuse other sizes",
          "[gpu][activation]") {
    Ops& ops = gpu().ops();
    Stream& stream = gpu().compute();
    const Tensor none(nullptr, DType::bf16, {0, 8});
    const Tensor none_wide(nullptr, DType::bf16, {0, 16});
    ops.gelu_forward(stream, none, none);
    ops.gelu_backward(stream, none, none, none);
    ops.swiglu_forward(stream, none_wide, none);
    ops.swiglu_backward(stream, none, none_wide, none_wide);
    const GpuTensor x(random_tensor(DType::f32, {2, 8}, 1));
    const GpuTensor y(OwnedTensor(DType::f32, {2, 5}));
    CHECK_THROWS_AS(ops.gelu_forward(stream, x.get(), y.get()), InternalError);
    CHECK_THROWS_AS(ops.swiglu_forward(stream, x.get(), y.get()), InternalError);
}

}  // namespace trireme::test
