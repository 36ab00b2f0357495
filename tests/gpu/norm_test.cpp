#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

constexpr float kEps = 1e-5f;

struct NormCase {
    int64_t rows, cols;
    int64_t offset;  // of the matrices in their tensors

    int64_t elements() const { return rows * cols; }
    Tensor view(const Tensor& flat) const {
        return flat.flat_range(offset, elements()).reshaped({rows, cols});
    }
};

// The tensors of a forward: x, weight, bias, y, mean, rstd.
std::vector<OwnedTensor> forward_tensors(DType type, const NormCase& c, double low = -2.0,
                                         double high = 3.0) {
    const int64_t flat_size = c.offset + c.elements();
    return {random_tensor(type, {flat_size}, 1, low, high),
            random_tensor(type, {c.cols}, 2, 0.5, 1.5),
            random_tensor(type, {c.cols}, 3),
            OwnedTensor(type, {flat_size}),
            OwnedTensor(DType::f32, {c.rows}),
            OwnedTensor(DType::f32, {c.rows})};
}

Operation forward(bool centered, const NormCase& c) {
    return [=](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        if (centered) {
            ops.layer_norm_forward(stream, c.view(t[0]), t[1], t[2], kEps, c.view(t[3]), t[4],
                                   t[5]);
        } else {
            ops.rms_norm_forward(stream, c.view(t[0]), t[1], kEps, c.view(t[3]), t[5]);
        }
    };
}

// The tensors of a backward: dy, x, weight, mean, rstd, dx, dweight, dbias. The statistics need not
// be those of x to compare two implementations.
std::vector<OwnedTensor> backward_tensors(DType type, const NormCase& c) {
    const int64_t flat_size = c.offset + c.elements();
    return {random_tensor(type, {flat_size}, 1),
            random_tensor(type, {flat_size}, 2, -2.0, 3.0),
            random_tensor(type, {c.cols}, 3, 0.5, 1.5),
            random_tensor(DType::f32, {c.rows}, 4, 0.3, 0.7),
            random_tensor(DType::f32, {c.rows}, 5, 0.5, 0.9),
            random_tensor(type, {flat_size}, 6),
            random_tensor(DType::f32, {c.cols}, 7),
            random_tensor(DType::f32, {c.cols}, 8)};
}

Operation backward(bool centered, const NormCase& c) {
    return [=](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        if (centered) {
            ops.layer_norm_backward(stream, c.view(t[0]), c.view(t[1]), t[2], t[3], t[4],
                                    c.view(t[5]), t[6], t[7]);
        } else {
            ops.rms_norm_backward(stream, c.view(t[0]), c.view(t[1]), t[2], t[4], c.view(t[5]),
                                  t[6]);
        }
    };
}

std::vector<Tolerance> backward_tolerances(DType type, int64_t rows) {
    const Tolerance sums{1e-5, 2e-6 * std::sqrt(static_cast<double>(rows)) + 4e-6};
    std::vector<Tolerance> all(5, kSameValues);  // what is only read
    all.push_back(one_step(type));
    all.push_back(sums);
    all.push_back(sums);
    return all;
}

}  // namespace

TEST_CASE("the GPU's norms and their statistics are the CPU's", "[gpu][norm]") {
    const bool centered = GENERATE(true, false);
    const DType type = GENERATE(DType::f32, DType::bf16);
    const NormCase c = GENERATE(NormCase{1, 1, 0}, NormCase{3, 257, 0}, NormCase{5, 32, 0},
                                NormCase{2, 40, 0}, NormCase{3, 96, 1}, NormCase{1, 1600, 8});
    if (centered && c.cols == 1) return;  // 0 / 0 but for eps: a case of its own below
    CAPTURE(centered, name_of(type), c.rows, c.cols, c.offset);
    compare_devices(
        forward_tensors(type, c),
        {kSameValues, kSameValues, kSameValues, one_step(type), {2e-6, 1e-6}, {4e-6, 0.0}},
        forward(centered, c), "norm");
}

TEST_CASE("the GPU's norms take rows too long for registers", "[gpu][norm]") {
    const bool centered = GENERATE(true, false);
    // Of single elements, and of packs.
    const NormCase long_row{1, centered ? 4099 : 16388, 0};
    CAPTURE(centered);
    compare_devices(
        forward_tensors(DType::f32, long_row),
        {kSameValues, kSameValues, kSameValues, one_step(DType::f32), {2e-6, 1e-6}, {4e-6, 0.0}},
        forward(centered, long_row), "norm");
    const NormCase c{9, centered ? 1029 : 4100, 0};
    const std::vector<OwnedTensor> tensors = backward_tensors(DType::f32, c);
    compare_devices(tensors, backward_tolerances(DType::f32, c.rows), backward(centered, c),
                    "gradient");
    check_repeatable(tensors, backward(centered, c));  // whatever the last run left in scratch
}

TEST_CASE("a large offset of the input does not spoil the GPU's layer norm", "[gpu][norm]") {
    const NormCase c{2, 257, 0};
    // The variance of these is 1 / 12, the error of its f32 mean up to 3e-5.
    compare_devices(forward_tensors(DType::f32, c, 1000.0, 1001.0),
                    {kSameValues, kSameValues, kSameValues, {5e-4, 5e-4}, {3e-7, 0.0}, {1e-5, 0.0}},
                    forward(true, c), "norm");
}

TEST_CASE("rows of one large value each leave the bias of the GPU's layer norm", "[gpu][norm]") {
    // Their f32 sums are rounded, so that the first estimates of the means are off by more than
    // what eps hides.
    const NormCase c{8, 257, 0};
    std::vector<OwnedTensor> tensors = forward_tensors(DType::f32, c);
    for (int64_t i = 0; i < c.elements(); ++i) {
        tensors[0].set(i, 123456.7 + 54321.1 * static_cast<double>(i / c.cols));
    }
    compare_devices(tensors,
                    {kSameValues, kSameValues, kSameValues, {0.0, 1e-6}, kSameValues, {1e-3, 0.0}},
                    forward(true, c), "norm");
    const GpuTensor x(tensors[0]), weight(tensors[1]), bias(tensors[2]), y(tensors[3]),
        mean(tensors[4]), rstd(tensors[5]);
    gpu().ops().layer_norm_forward(gpu().compute(), c.view(x.get()), weight.get(), bias.get(), kEps,
                                   c.view(y.get()), mean.get(), rstd.get());
    Doubles want;
    for (int64_t i = 0; i < c.elements(); ++i) want.push_back(tensors[2].at(i % c.cols));
    check_close(y.download().values(), want, {0.0, 1e-6}, "output");
}

TEST_CASE("a layer norm of one column on the GPU gives the bias and no gradient", "[gpu][norm]") {
    const GpuTensor x(random_tensor(DType::f32, {3, 1}, 1, -2.0, 3.0));
    const GpuTensor weight(OwnedTensor(DType::f32, {1}, {2.0}));
    const GpuTensor bias(OwnedTensor(DType::f32, {1}, {0.25}));
    const GpuTensor y(OwnedTensor(DType::f32, {3, 1}));
    const GpuTensor mean(OwnedTensor(DType::f32, {3})), rstd(OwnedTensor(DType::f32, {3}));
    const OwnedTensor before = random_tensor(DType::f32, {3, 1}, 5);
    const GpuTensor dx(before);
    const GpuTensor dweight(OwnedTensor(DType::f32, {1})), dbias(OwnedTensor(DType::f32, {1}));
    Ops& ops = gpu().ops();
    ops.layer_norm_forward(gpu().compute(), x.get(), weight.get(), bias.get(), kEps, y.get(),
                           mean.get(), rstd.get());
    ops.layer_norm_backward(gpu().compute(), x.get(), x.get(), weight.get(), mean.get(), rstd.get(),
                            dx.get(), dweight.get(), dbias.get());
    CHECK(y.download().values() == Doubles{0.25, 0.25, 0.25});
    CHECK(dx.download().values() == before.values());
}

TEST_CASE("NaN in a row stays in that row of the GPU's norms", "[gpu][norm]") {
    const bool centered = GENERATE(true, false);
    const NormCase c{2, 40, 0};
    std::vector<OwnedTensor> tensors = forward_tensors(DType::f32, c);
    tensors[0].set(3, NAN);
    std::vector<GpuTensor> on_gpu;
    std::vector<Tensor> views;
    for (const OwnedTensor& tensor : tensors) on_gpu.emplace_back(tensor);
    for (const GpuTensor& tensor : on_gpu) views.push_back(tensor.get());
    forward(centered, c)(gpu().ops(), gpu().compute(), views);
    const Doubles y = on_gpu[3].download().values();
    for (size_t i = 0; i < 80; ++i) REQUIRE(std::isnan(y[i]) == (i < 40));
    CHECK(std::isnan(on_gpu[5].download().at(0)));
}

TEST_CASE("the gradients of the GPU's norms are the CPU's, in the same order each time",
          "[gpu][norm]") {
    const bool centered = GENERATE(true, false);
    const DType type = GENERATE(DType::f32, DType::bf16);
    // One block and several of them, with rows that do not divide among them.
    const NormCase c = GENERATE(NormCase{1, 1, 0}, NormCase{19, 257, 0}, NormCase{50, 32, 0},
                                NormCase{3, 40, 0}, NormCase{9, 96, 1}, NormCase{9, 328, 8});
    CAPTURE(centered, name_of(type), c.rows, c.cols, c.offset);
    const std::vector<OwnedTensor> tensors = backward_tensors(type, c);
    compare_devices(tensors, backward_tolerances(type, c.rows), backward(centered, c), "gradient");
    if (c.cols == 32 || c.cols == 96) check_repeatable(tensors, backward(centered, c));
}

TEST_CASE("the GPU's norms take no rows and refuse sizes that do not fit", "[gpu][norm]") {
    const GpuTensor weight(random_tensor(DType::f32, {8}, 2));
    const GpuTensor short_weight(random_tensor(DType::f32, {4}, 2));
    const GpuTensor x(random_tensor(DType::f32, {2, 8}, 1));
    const GpuTensor rstd(OwnedTensor(DType::f32, {2}));
    const Tensor none(nullptr, DType::f32, {0, 8});
    const Tensor no_rstd(nullptr, DType::f32, {0});
    Ops& ops = gpu().ops();
    Stream& stream = gpu().compute();
    ops.layer_norm_forward(stream, none, weight.get(), weight.get(), kEps, none, no_rstd, no_rstd);
    ops.rms_norm_backward(stream, none, none, weight.get(), no_rstd, none, weight.get());
    CHECK_THROWS_AS(
        ops.rms_norm_forward(stream, x.get(), short_weight.get(), kEps, x.get(), rstd.get()),
        InternalError);
    CHECK_THROWS_AS(ops.rms_norm_backward(stream, x.get(), x.get(), weight.get(), rstd.get(),
                                          x.get(), short_weight.get()),
                    InternalError);
}

}  // namespace trireme::test
