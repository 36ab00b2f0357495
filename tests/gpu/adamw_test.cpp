#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

AdamWStep make_step(int64_t step) {
    AdamWStep s;
    s.lr = 1e-2;
    s.beta1 = 0.9;
    s.beta2 = 0.95;
    s.eps = 1e-8;
    s.weight_decay = 0.1;
    s.step = step;
    return s;
}

}  // namespace

TEST_CASE("twenty AdamW steps on the GPU follow those on the CPU", "[gpu][adamw]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const bool in_place = type == DType::f32 && GENERATE(true, false);
    const int64_t n = GENERATE(1, 257, 1030);
    // 4: on a 16-byte boundary in f32, on one of 8 in bf16.
    const int64_t offset = GENERATE(0, 1, 4);
    CAPTURE(name_of(type), in_place, n, offset);
    constexpr int64_t kSteps = 20;
    // Elements beyond the range on both sides show that nothing else is written.
    const Shape padded{n + offset + 3};
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        const auto range = [&](const Tensor& tensor) { return tensor.flat_range(offset, n); };
        for (int64_t step = 1; step <= kSteps; ++step) {
            const Tensor grad = t[5].row_range(step - 1, 1).reshaped(padded);
            ops.adamw(stream, make_step(step), range(grad), t[4], range(t[0]), range(t[1]),
                      range(t[2]), range(in_place ? t[0] : t[3]));
        }
    };
    const std::vector<OwnedTensor> tensors{
        random_tensor(DType::f32, padded, 1),
        random_tensor(DType::f32, padded, 2, -0.1, 0.1),
        random_tensor(DType::f32, padded, 3, 0.0, 0.1),
        random_tensor(type, padded, 4),
        OwnedTensor(DType::f32, {1}, {0.5}),
        random_tensor(DType::f32, {kSteps, padded[0]}, 5, -1.0, 1.5)};
    // Compilers may join products and sums differently; rounding to bf16 may then differ by one.
    const Tolerance of_param = type == DType::f32 ? Tolerance{1e-6, 1e-6} : Tolerance{8e-3, 1e-6};
    compare_devices(tensors,
                    {{1e-6, 1e-6}, {1e-6, 1e-7}, {1e-6, 1e-8}, of_param, kSameValues, kSameValues},
                    operation, "after all steps");
}

TEST_CASE("parameters are the rounded master weights on the GPU", "[gpu][adamw]") {
    const int64_t n = 257;
    const GpuTensor master(random_tensor(DType::f32, {n}, 1));
    const GpuTensor m(OwnedTensor(DType::f32, {n})), v(OwnedTensor(DType::f32, {n}));
    const GpuTensor grad(random_tensor(DType::f32, {n}, 2));
    const GpuTensor scale(OwnedTensor(DType::f32, {1}, {1.0}));
    const GpuTensor param(OwnedTensor(DType::bf16, {n}));
    gpu().ops().adamw(gpu().compute(), make_step(1), grad.get(), scale.get(), master.get(), m.get(),
                      v.get(), param.get());
    CHECK(param.download().values() ==
          OwnedTensor(DType::bf16, {n}, master.download().values()).values());
}

TEST_CASE("AdamW on the GPU takes empty ranges and refuses step zero", "[gpu][adamw]") {
    const GpuTensor values(OwnedTensor(DType::f32, {5}));
    const GpuTensor scale(OwnedTensor(DType::f32, {1}, {1.0}));
    const auto update = [&](int64_t step, const Tensor& x) {
        gpu().ops().adamw(gpu().compute(), make_step(step), x, scale.get(), x, x, x, x);
    };
    update(1, values.get().flat_range(2, 0));
    CHECK(values.download().values() == Doubles(5, 0.0));
    CHECK_THROWS_AS(update(0, values.get()), InternalError);
}

}  // namespace trireme::test
