#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

constexpr float kEps = 1e-5f;

struct Case {
    bool centered;
    DType type;
    int64_t rows, cols;
    int64_t offset;  // of the matrices in their tensors
    bool with_bias;
    float probability;

    Tensor view(const Tensor& flat) const {
        return flat.flat_range(offset, rows * cols).reshaped({rows, cols});
    }
    // t as of tensors_of; out: one of its matrices.
    ResidualAdd add(const std::vector<Tensor>& t, const Tensor& out) const {
        // A stream beyond 32 bits: its upper half counts too.
        const Dropout dropout{probability, make_key(11, "residual"), (uint64_t{3} << 32) + 42,
                              1003};
        return {view(t[0]), view(t[1]), with_bias ? t[2] : Tensor(), dropout, view(out)};
    }
};

// Residual, addend, its bias, the norm's weight and bias, sum, normed sum, mean, rstd.
std::vector<OwnedTensor> tensors_of(const Case& c) {
    const int64_t flat_size = c.offset + c.rows * c.cols;
    return {random_tensor(c.type, {flat_size}, 1, -2.0, 3.0),
            random_tensor(c.type, {flat_size}, 2),
            random_tensor(c.type, {c.cols}, 3),
            random_tensor(c.type, {c.cols}, 4, 0.5, 1.5),
            random_tensor(c.type, {c.cols}, 5),
            OwnedTensor(c.type, {flat_size}),
            OwnedTensor(c.type, {flat_size}),
            OwnedTensor(DType::f32, {c.rows}),
            OwnedTensor(DType::f32, {c.rows})};
}

// out: which tensor the sum is written to.
Operation together(const Case& c, size_t out = 5) {
    return [=](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        if (c.centered) {
            ops.residual_add_layer_norm_forward(stream, c.add(t, t[out]), t[3], t[4], kEps,
                                                c.view(t[6]), t[7], t[8]);
        } else {
            ops.residual_add_rms_norm_forward(stream, c.add(t, t[out]), t[3], kEps, c.view(t[6]),
                                              t[8]);
        }
    };
}

Operation one_after_the_other(const Case& c, size_t out = 5) {
    return [=](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        const ResidualAdd add = c.add(t, t[out]);
        ops.residual_add_forward(stream, add);
        if (c.centered) {
            ops.layer_norm_forward(stream, add.out, t[3], t[4], kEps, c.view(t[6]), t[7], t[8]);
        } else {
            ops.rms_norm_forward(stream, add.out, t[3], kEps, c.view(t[6]), t[8]);
        }
    };
}

Case generate_case(int64_t rows, int64_t cols, int64_t offset) {
    return {GENERATE(true, false),
            GENERATE(DType::f32, DType::bf16),
            rows,
            cols,
            offset,
            GENERATE(true, false),
            GENERATE(0.0f, 0.25f)};
}

std::vector<std::vector<char>> bits_of(const Case& c, const Operation& operation) {
    std::vector<GpuTensor> on_gpu;
    std::vector<Tensor> views;
    for (const OwnedTensor& tensor : tensors_of(c)) on_gpu.emplace_back(tensor);
    for (const GpuTensor& tensor : on_gpu) views.push_back(tensor.get());
    operation(gpu().ops(), gpu().compute(), views);
    std::vector<std::vector<char>> bits;
    for (const GpuTensor& tensor : on_gpu) bits.push_back(tensor.download().bytes());
    return bits;
}

}  // namespace

TEST_CASE("the GPU's residual add with the norm of its sum is the CPU's", "[gpu][residual][norm]") {
    const auto [rows, cols, offset] =
        GENERATE(std::tuple<int64_t, int64_t, int64_t>{3, 257, 0}, std::tuple{5, 32, 0},
                 std::tuple{2, 40, 0}, std::tuple{3, 96, 1}, std::tuple{1, 1600, 8});
    const Case c = generate_case(rows, cols, offset);
    CAPTURE(c.centered, name_of(c.type), rows, cols, offset, c.with_bias, c.probability);
    const Tolerance sum = c.probability == 0.0f ? kSameValues : one_step(c.type);
    // Where bf16 sums differ by a rounding, so do their norms.
    const Tolerance norm =
        c.type == DType::bf16 ? Tolerance{1.0 / 64, 1.0 / 64} : Tolerance{4e-6, 8e-6};
    std::vector<Tolerance> tolerances(5, kSameValues);  // what is only read
    tolerances.push_back(sum);
    tolerances.push_back(c.probability == 0.0f ? one_step(c.type) : norm);
    tolerances.push_back({1e-5, 1e-5});
    tolerances.push_back({1e-5, 0.0});
    if (c.type == DType::bf16 && c.probability > 0.0f) {
        tolerances[7] = {1e-3, 1e-3};
        tolerances[8] = {1e-3, 0.0};
    }
    compare_devices(tensors_of(c), tolerances, together(c), "residual add with norm");
}

TEST_CASE("the GPU's residual add with a norm gives the bits of both, in place too",
          "[gpu][residual][norm]") {
    // Single elements, packs, and rows too long for registers.
    const auto [rows, cols, offset] = GENERATE(
        std::tuple<int64_t, int64_t, int64_t>{1, 1, 0}, std::tuple{3, 257, 0}, std::tuple{3, 96, 1},
        std::tuple{2, 1600, 8}, std::tuple{1, 4099, 0}, std::tuple{1, 32776, 0});
    const Case c = generate_case(rows, cols, offset);
    const size_t out = GENERATE(5u, 0u, 1u);
    CAPTURE(c.centered, name_of(c.type), rows, cols, offset, c.with_bias, c.probability, out);
    if (cols > 2000 && (out != 5 || c.with_bias)) return;
    const bool same_bits = bits_of(c, together(c, out)) == bits_of(c, one_after_the_other(c, out));
    CHECK(same_bits);
}

TEST_CASE("the GPU's residual add with a norm takes no rows and refuses what either refuses",
          "[gpu][residual][norm]") {
    Ops& ops = gpu().ops();
    Stream& stream = gpu().compute();
    const GpuTensor x(random_tensor(DType::f32, {2, 8}, 1));
    const GpuTensor y(random_tensor(DType::f32, {2, 8}, 1));
    const GpuTensor weight(random_tensor(DType::f32, {8}, 2));
    const GpuTensor short_weight(random_tensor(DType::f32, {4}, 2));
    const GpuTensor rstd(OwnedTensor(DType::f32, {2}));
    const Tensor none(nullptr, DType::f32, {0, 8}), no_rstd(nullptr, DType::f32, {0});
    ops.residual_add_layer_norm_forward(stream, {none, none, {}, {}, none}, weight.get(),
                                        weight.get(), kEps, none, no_rstd, no_rstd);
    ops.residual_add_rms_norm_forward(stream, {none, none, {}, {}, none}, weight.get(), kEps, none,
                                      no_rstd);
    ResidualAdd add{x.get(), x.get(), {}, {}, x.get()};
    CHECK_THROWS_AS(ops.residual_add_rms_norm_forward(stream, add, short_weight.get(), kEps,
                                                      y.get(), rstd.get()),
                    InternalError);
    add.bias = short_weight.get();
    CHECK_THROWS_AS(
        ops.residual_add_rms_norm_forward(stream, add, weight.get(), kEps, y.get(), rstd.get()),
        InternalError);
    add.bias = {};
    add.dropout.probability = 1.0f;
    CHECK_THROWS_AS(ops.residual_add_layer_norm_forward(stream, add, weight.get(), weight.get(),
                                                        kEps, y.get(), rstd.get(), rstd.get()),
                    InternalError);
}

}  // namespace trireme::test
