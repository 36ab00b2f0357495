#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

TEST_CASE("the GPU clears exactly a tensor", "[gpu][elementwise]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t n = GENERATE(1, 33, 7001);
    compare_devices({OwnedTensor(type, {n + 2}, Doubles(n + 2, 7.0))}, {kSameValues},
                    [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                        ops.fill_zero(stream, t[0].flat_range(1, n));
                    },
                    "cleared");
}

TEST_CASE("the GPU converts as the CPU does, bit for bit", "[gpu][elementwise]") {
    const DType from = GENERATE(DType::f32, DType::bf16);
    const DType to = GENERATE(DType::f32, DType::bf16);
    const int64_t n = GENERATE(1, 4, 33, 7001);
    const int64_t offset = GENERATE(0, 1);
    compare_devices({random_tensor(from, {n + offset}, 1), OwnedTensor(to, {n + offset})},
                    {kSameValues},
                    [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                        ops.copy(stream, t[0].flat_range(offset, n), t[1].flat_range(offset, n));
                    },
                    "converted");
}

TEST_CASE("the GPU adds one tensor to another", "[gpu][elementwise]") {
    const DType from = GENERATE(DType::f32, DType::bf16);
    const DType to = GENERATE(DType::f32, DType::bf16);
    const int64_t n = GENERATE(1, 64, 7001);
    const int64_t offset = GENERATE(0, 1);
    compare_devices({random_tensor(from, {n + offset}, 1), random_tensor(to, {n + offset}, 2)},
                    {kSameValues},
                    [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                        ops.add(stream, t[0].flat_range(offset, n), t[1].flat_range(offset, n));
                    },
                    "sum");
}

TEST_CASE("the GPU adds sums and squared norms to a total, in the same order each time",
          "[gpu][elementwise]") {
    const int64_t n = GENERATE(1, 257, 70001);
    const bool squares = GENERATE(false, true);
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        if (squares) {
            ops.add_squared_norm(stream, t[0], t[1]);
        } else {
            ops.add_sum(stream, t[0], t[1]);
        }
    };
    const std::vector<OwnedTensor> tensors{random_tensor(DType::f32, {n}, 3),
                                           OwnedTensor(DType::f64, {1}, {0.5})};
    compare_devices(tensors, {{1e-12, 1e-10}}, operation, "total");
    check_repeatable(tensors, operation);
}

TEST_CASE("the GPU adds in an order that the address does not change", "[gpu][elementwise]") {
    const int64_t n = 70003;
    const GpuTensor values(random_tensor(DType::f32, {n}, 3));
    const auto total_at = [&](int64_t offset) {
        const GpuTensor x(OwnedTensor(DType::f32, {n + offset}));
        const GpuTensor total(OwnedTensor(DType::f64, {1}));
        const Tensor part = x.get().flat_range(offset, n);
        gpu().ops().copy(gpu().compute(), values.get(), part);
        gpu().ops().add_squared_norm(gpu().compute(), part, total.get());
        return total.download().at(0);
    };
    CHECK(total_at(0) == total_at(1));
}

TEST_CASE("the GPU finds the clip scale, NaN included", "[gpu][elementwise]") {
    const double squared_norm = GENERATE(0.0, 0.25, 4.0, 1e30);
    const float max_norm = GENERATE(0.0f, 1.0f);
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.clip_scale(stream, t[0], max_norm, t[1]);
    };
    compare_devices({OwnedTensor(DType::f64, {1}, {squared_norm}), OwnedTensor(DType::f32, {1})},
                    {{1e-7, 1e-30}}, operation, "scale");
    const GpuTensor nan(OwnedTensor(DType::f64, {1}, {NAN}));
    const GpuTensor scale(OwnedTensor(DType::f32, {1}));
    gpu().ops().clip_scale(gpu().compute(), nan.get(), 1.0f, scale.get());
    CHECK(std::isnan(scale.download().at(0)));
}

}  // namespace trireme::test
