#include "core/cuda/matmul.h"

#include <algorithm>

#include "tests/gpu/gpu_test_support.h"

#ifdef TRIREME_CUDA_EMULATED
#include "tests/cuda_emulation/emulation.h"
#endif

namespace trireme::test {

namespace {

// Of one rounding to the type after a sum of up to a few hundred products of values around 1.
Tolerance product_tolerance(DType type) {
    return type == DType::bf16 ? Tolerance{1.0 / 128, 3e-5} : Tolerance{2e-6, 3e-5};
}

// With a GELU that may see its input before or after it is rounded.
Tolerance gelu_tolerance(DType type) {
    return type == DType::bf16 ? Tolerance{1.0 / 64, 2e-3} : Tolerance{4e-6, 3e-5};
}

struct Sizes {
    int64_t tokens, in, out;
};

// Where a matrix lies in a buffer of its own: `offset` elements behind aligned memory.
Tensor view(const Tensor& buffer, int64_t offset, int64_t rows, int64_t cols) {
    return buffer.flat_range(offset, rows * cols).reshaped({rows, cols});
}

OwnedTensor buffer(DType type, int64_t elements, uint64_t seed) {
    return random_tensor(type, {elements + 8}, seed);
}

int lines_of(const std::string& text) {
    return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

// The values of a product on a device of the test's own, and what the device chose for it.
struct Outcome {
    Doubles values;
    std::string algorithms;
};

Outcome run_on(CudaDevice& device, const std::vector<OwnedTensor>& tensors, size_t output,
               const Operation& operation) {
    std::vector<Tensor> on_gpu;
    for (const OwnedTensor& tensor : tensors) {
        const Tensor& host = tensor.get();
        on_gpu.emplace_back(device.allocate(host.bytes(), "test"), host.dtype, host.shape);
        device.copy_to_device(on_gpu.back().data, host.data, host.bytes());
    }
    operation(device.ops(), device.compute(), on_gpu);
    OwnedTensor result(on_gpu[output].dtype, on_gpu[output].shape);
    device.copy_to_host(result.get().data, on_gpu[output].data, result.get().bytes());
    device.compute().synchronize();
    for (const Tensor& tensor : on_gpu) device.release(tensor.data);
    return {result.values(), device.ops().matmul().describe_algorithms()};
}

}  // namespace

TEST_CASE("the GPU's linear layer is the CPU's, with and without bias, at odd sizes",
          "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const DType out_type = GENERATE(DType::f32, DType::bf16);
    if (type == DType::f32 && out_type == DType::bf16) return;
    const Sizes s = GENERATE(Sizes{1, 1, 1}, Sizes{7, 33, 1}, Sizes{1, 257, 33}, Sizes{33, 7, 257},
                             Sizes{48, 64, 80}, Sizes{257, 31, 7});
    const int64_t offset = GENERATE(0, 1);
    const bool bias = GENERATE(false, true);
    compare_devices(
        {buffer(type, s.tokens * s.in, 1), buffer(type, s.out * s.in, 2), buffer(type, s.out, 3),
         buffer(out_type, s.tokens * s.out, 4)},
        {kSameValues, kSameValues, kSameValues, product_tolerance(out_type)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.linear_forward(stream, view(t[0], offset, s.tokens, s.in),
                               view(t[1], offset, s.out, s.in),
                               bias ? t[2].flat_range(offset, s.out) : Tensor(),
                               view(t[3], offset, s.tokens, s.out));
        },
        "linear forward");
}

TEST_CASE("the GPU's gradient of a linear layer's input is the CPU's", "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Sizes s = GENERATE(Sizes{1, 1, 1}, Sizes{7, 33, 1}, Sizes{1, 257, 33}, Sizes{33, 7, 257},
                             Sizes{48, 64, 80});
    const int64_t offset = GENERATE(0, 1);
    compare_devices(
        {buffer(type, s.tokens * s.out, 1), buffer(type, s.out * s.in, 2),
         buffer(type, s.tokens * s.in, 3)},
        {kSameValues, kSameValues, product_tolerance(type)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.linear_backward_input(stream, view(t[0], offset, s.tokens, s.out),
                                      view(t[1], offset, s.out, s.in),
                                      view(t[2], offset, s.tokens, s.in));
        },
        "linear backward input");
}

TEST_CASE("the GPU adds to the gradient of a linear layer's weight as the CPU does",
          "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Sizes s = GENERATE(Sizes{1, 1, 1}, Sizes{7, 33, 1}, Sizes{1, 257, 33}, Sizes{33, 7, 257},
                             Sizes{257, 64, 80});
    const int64_t offset = GENERATE(0, 1);
    const std::vector<OwnedTensor> tensors{buffer(type, s.tokens * s.out, 1),
                                           buffer(type, s.tokens * s.in, 2),
                                           buffer(DType::f32, s.out * s.in, 3)};
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.linear_backward_weight(stream, view(t[0], offset, s.tokens, s.out),
                                   view(t[1], offset, s.tokens, s.in),
                                   view(t[2], offset, s.out, s.in));
    };
    compare_devices(tensors, {kSameValues, kSameValues, product_tolerance(DType::f32)}, operation,
                    "linear backward weight");
    check_repeatable(tensors, operation);
}

TEST_CASE("the GPU's linear layer with GELU is the CPU's, in one pass where sizes allow it",
          "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Sizes s =
        GENERATE(Sizes{1, 1, 8}, Sizes{7, 33, 64}, Sizes{33, 40, 257}, Sizes{48, 64, 80});
    const int64_t offset = GENERATE(0, 1);
    const bool bias = GENERATE(false, true);
    compare_devices(
        {buffer(type, s.tokens * s.in, 1), buffer(type, s.out * s.in, 2), buffer(type, s.out, 3),
         buffer(type, s.tokens * s.out, 4), buffer(type, s.tokens * s.out, 5)},
        {kSameValues, kSameValues, kSameValues, product_tolerance(type), gelu_tolerance(type)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.linear_gelu_forward(
                stream, view(t[0], offset, s.tokens, s.in), view(t[1], offset, s.out, s.in),
                bias ? t[2].flat_range(offset, s.out) : Tensor(),
                view(t[3], offset, s.tokens, s.out), view(t[4], offset, s.tokens, s.out));
        },
        "linear gelu forward");
}

TEST_CASE("the GPU's gradient before a GELU is the CPU's, in one pass where sizes allow it",
          "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Sizes s =
        GENERATE(Sizes{1, 8, 1}, Sizes{7, 64, 33}, Sizes{33, 257, 40}, Sizes{48, 64, 80});
    const int64_t offset = GENERATE(0, 1);
    compare_devices(
        {buffer(type, s.tokens * s.out, 1), buffer(type, s.out * s.in, 2),
         random_tensor(type, {s.tokens * s.in + 8}, 3, -4.0, 4.0),
         buffer(type, s.tokens * s.in, 4)},
        {kSameValues, kSameValues, kSameValues, gelu_tolerance(type)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.linear_gelu_backward_input(
                stream, view(t[0], offset, s.tokens, s.out), view(t[1], offset, s.out, s.in),
                view(t[2], offset, s.tokens, s.in), view(t[3], offset, s.tokens, s.in));
        },
        "linear gelu backward input");
}

TEST_CASE("the GELU of f32 products on the GPU is not left to cuBLASLt", "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    CudaDevice device(0, CudaOpsOptions{});
    const Outcome outcome =
        run_on(device,
               {random_tensor(type, {48, 64}, 1), random_tensor(type, {80, 64}, 2),
                random_tensor(type, {48, 80}, 3), random_tensor(type, {48, 80}, 4),
                random_tensor(type, {48, 64}, 5), random_tensor(type, {48, 64}, 6)},
               3, [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                   ops.linear_gelu_forward(stream, t[0], t[1], Tensor(), t[2], t[3]);
                   ops.linear_gelu_backward_input(stream, t[3], t[1], t[4], t[5]);
               });
    CHECK((outcome.algorithms.find("gelu") == std::string::npos) == (type == DType::f32));
}

#ifdef TRIREME_CUDA_EMULATED

TEST_CASE("a bias that cuBLASLt cannot add is added all the same", "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const DType out_type = GENERATE(DType::f32, DType::bf16);
    if (type == DType::f32 && out_type == DType::bf16) return;
    const std::vector<OwnedTensor> tensors{
        random_tensor(type, {7, 33}, 1), random_tensor(type, {31, 33}, 2),
        random_tensor(type, {31}, 3), random_tensor(out_type, {7, 31}, 4)};
    const Operation linear = [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.linear_forward(stream, t[0], t[1], t[2], t[3]);
    };
    CudaDevice fused(0, CudaOpsOptions{}), separate(0, CudaOpsOptions{});
    const Outcome want = run_on(fused, tensors, 3, linear);
    cuda_emulation::refuse_epilogues(true);
    const Outcome got = run_on(separate, tensors, 3, linear);
    cuda_emulation::refuse_epilogues(false);
    CHECK(got.algorithms.find("no algorithm, separate operations") != std::string::npos);
    // Rounded before the bias is added as well.
    const Tolerance tolerance =
        out_type == DType::bf16 ? Tolerance{1.0 / 64, 4e-2} : product_tolerance(out_type);
    check_close(got.values, want.values, tolerance, "linear layer");
}

#endif

TEST_CASE("each operand of a product on the GPU may lie at another address", "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int moved = GENERATE(0, 1, 2, 3);
    const auto offset = [&](int operand) { return int64_t{operand == moved ? 1 : 0}; };
    const Sizes s{48, 64, 80};
    compare_devices(
        {buffer(type, s.tokens * s.in, 1), buffer(type, s.out * s.in, 2), buffer(type, s.out, 3),
         buffer(type, s.tokens * s.out, 4)},
        {kSameValues, kSameValues, kSameValues, product_tolerance(type)},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            // First where everything is aligned, so that this is not taken for that.
            for (const bool shift : {false, true}) {
                const auto at = [&](int i) { return shift ? offset(i) : 0; };
                ops.linear_forward(stream, view(t[0], at(0), s.tokens, s.in),
                                   view(t[1], at(1), s.out, s.in), t[2].flat_range(at(2), s.out),
                                   view(t[3], at(3), s.tokens, s.out));
            }
        },
        "linear forward");
}

TEST_CASE("a product of known sizes takes its bias and aux from where they are", "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    std::vector<OwnedTensor> tensors{random_tensor(type, {16, 32}, 1),
                                     random_tensor(type, {24, 32}, 2)};
    for (uint64_t seed = 3; seed < 5; ++seed) {
        tensors.push_back(random_tensor(type, {24}, seed));
        tensors.push_back(OwnedTensor(type, {16, 24}));  // pre
        tensors.push_back(OwnedTensor(type, {16, 24}));  // y
        tensors.push_back(OwnedTensor(type, {16, 24}));  // dy
    }
    compare_devices(
        tensors, {gelu_tolerance(type)},
        [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            for (size_t i = 2; i < t.size(); i += 4) {
                ops.linear_gelu_forward(stream, t[0], t[1], t[i], t[i + 1], t[i + 2]);
            }
            const Tensor w = t[1].reshaped({32, 24});
            for (size_t i = 2; i < t.size(); i += 4) {
                ops.linear_gelu_backward_input(stream, t[0], w, t[i + 1], t[i + 3]);
            }
        },
        "gelu");
}

TEST_CASE("the GPU leaves gradients alone when there are no tokens", "[gpu][matmul]") {
    compare_devices(
        {random_tensor(DType::bf16, {8, 24}, 1), random_tensor(DType::f32, {8, 24}, 2)},
        {kSameValues},
        [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            const Tensor none = t[0].row_range(0, 0);
            ops.linear_backward_weight(stream, none.row_range(0, 0).reshaped({0, 8}), none, t[1]);
            ops.linear_forward(stream, none, t[0], Tensor(), none.reshaped({0, 8}));
        },
        "nothing");
}

TEST_CASE("a product of empty matrices is zero, or adds nothing", "[gpu][matmul]") {
    const bool accumulate = GENERATE(false, true);
    const GpuTensor output(random_tensor(DType::f32, {3, 5}, 1));
    const Doubles before = output.download().values();
    CudaMatmulCall call;
    call.a = Tensor(output.get().data, DType::f32, {3, 0});
    call.b = Tensor(output.get().data, DType::f32, {0, 5});
    call.output = output.get();
    call.accumulate = accumulate;
    gpu().ops().matmul().run(gpu().compute(), call);
    CHECK(output.download().values() == (accumulate ? before : Doubles(15, 0.0)));
}

TEST_CASE("a product is refused when types or sizes do not fit", "[gpu][matmul]") {
    const GpuTensor x(random_tensor(DType::bf16, {8, 16}, 1));
    const GpuTensor w(random_tensor(DType::bf16, {24, 16}, 2));
    const GpuTensor y(random_tensor(DType::bf16, {8, 24}, 3));
    const GpuTensor f32(random_tensor(DType::f32, {24, 24}, 4));
    Ops& ops = gpu().ops();
    Stream& stream = gpu().compute();
    CHECK_THROWS_AS(ops.linear_forward(stream, x.get(), w.get(), {}, x.get()), InternalError);
    CHECK_THROWS_AS(ops.linear_forward(stream, x.get(), f32.get(), {}, y.get()), InternalError);
    CHECK_THROWS_AS(ops.linear_backward_input(stream, x.get(), w.get(), y.get()), InternalError);
    CHECK_THROWS_AS(ops.linear_backward_weight(stream, y.get(), x.get(), w.get()), InternalError);
    CHECK_THROWS_AS(
        ops.linear_gelu_forward(stream, x.get(), w.get(), {}, f32.get().row_range(0, 8), y.get()),
        InternalError);
    CudaMatmulCall call;
    call.a = x.get(), call.b = w.get(), call.output = y.get();
    CHECK_THROWS_AS(gpu().ops().matmul().run(stream, call), InternalError);  // b not transposed
    call.transpose_b = true;
    call.accumulate = true;  // to bf16
    CHECK_THROWS_AS(gpu().ops().matmul().run(stream, call), InternalError);
}

TEST_CASE("a product that cuBLASLt cannot do says which one it is", "[gpu][matmul]") {
    const GpuTensor x(random_tensor(DType::bf16, {8, 16}, 1));
    const GpuTensor w(random_tensor(DType::bf16, {33, 16}, 2));
    const GpuTensor y(OwnedTensor(DType::bf16, {8, 33})), aux(OwnedTensor(DType::bf16, {8, 33}));
    CudaMatmulCall call;
    call.a = x.get(), call.b = w.get(), call.output = y.get(), call.aux = aux.get();
    call.transpose_b = true;
    call.epilogue = MatmulEpilogue::gelu_aux;
    CHECK_FALSE(gpu().ops().matmul().try_run(gpu().compute(), call));
    CHECK_THROWS_WITH(gpu().ops().matmul().run(gpu().compute(), call),
                      Catch::Contains("[8, 16] [33, 16]^T") && Catch::Contains("aux"));
}

TEST_CASE("a known product allocates nothing and chooses no algorithm again", "[gpu][matmul]") {
    CudaDevice device(0, CudaOpsOptions{});
    const Tensor x(device.allocate(32 * 64 * 4, "test"), DType::bf16, {32, 64});
    const Tensor w(device.allocate(48 * 64 * 4, "test"), DType::bf16, {48, 64});
    const Tensor y(device.allocate(32 * 48 * 4, "test"), DType::bf16, {32, 48});
    const Tensor dw(device.allocate(48 * 64 * 4, "test"), DType::f32, {48, 64});
    size_t allocated = 0;
    for (int i = 0; i < 3; ++i) {
        device.ops().linear_forward(device.compute(), x, w, {}, y);
        device.ops().linear_backward_weight(device.compute(), y, x, dw);
        device.ops().linear_forward(device.compute(), x, w, {}, y);
        CHECK(lines_of(device.ops().matmul().describe_algorithms()) == 2);
        if (i > 0) CHECK(device.allocated_bytes() == allocated);
        allocated = device.allocated_bytes();
    }
    // Another alignment of the same sizes is another choice.
    device.ops().linear_forward(device.compute(), view(x, 1, 31, 64), w, {}, view(y, 1, 31, 48));
    CHECK(lines_of(device.ops().matmul().describe_algorithms()) == 3);
    device.compute().synchronize();
    for (const Tensor& tensor : {x, w, y, dw}) device.release(tensor.data);
}

TEST_CASE("measuring algorithms changes nothing but the last bits", "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const std::vector<OwnedTensor> tensors{
        random_tensor(type, {64, 96}, 1), random_tensor(type, {96, 48}, 2),
        random_tensor(DType::f32, {96, 48}, 3), random_tensor(type, {64, 48}, 4),
        OwnedTensor(type, {64, 96})};
    struct Case {
        const char* what;
        size_t output;
        Tolerance tolerance;
        Operation operation;
    };
    const std::vector<Case> cases{{"input gradient", 3, product_tolerance(type),
                                   [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                                       ops.linear_backward_input(stream, t[0], t[1], t[3]);
                                   }},
                                  {"weight gradient", 2, product_tolerance(DType::f32),
                                   [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                                       ops.linear_backward_weight(stream, t[0], t[3], t[2]);
                                   }},
                                  {"gelu's input", 4, product_tolerance(type),
                                   [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                                       ops.linear_gelu_forward(stream, t[3], t[1], {}, t[4], t[0]);
                                   }}};
    for (const Case& one : cases) {
        CudaDevice plain(0, CudaOpsOptions{});
        CudaDevice tuned(0, CudaOpsOptions{.tune_matmul = true});
        const Outcome want = run_on(plain, tensors, one.output, one.operation);
        const Outcome got = run_on(tuned, tensors, one.output, one.operation);
        check_close(got.values, want.values, one.tolerance, one.what);
        CHECK_THAT(want.algorithms, !Catch::Contains(" us"));
        CHECK_THAT(got.algorithms, Catch::Contains(" us, the fastest of "));
    }
}

TEST_CASE("the GPU sums the rows of a bias's gradient while it multiplies them", "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Sizes s = GENERATE(Sizes{7, 33, 1}, Sizes{33, 7, 257}, Sizes{257, 64, 80});
    const OwnedTensor dy = random_tensor(type, {s.tokens, s.out}, 1);
    const OwnedTensor x = random_tensor(type, {s.tokens, s.in}, 2);
    const OwnedTensor dw = random_tensor(DType::f32, {s.out, s.in}, 3);
    const OwnedTensor zero(DType::f32, {s.out});
    const GpuTensor gpu_dy(dy), gpu_x(x), gpu_dw(dw), sums(random_tensor(DType::f32, {s.out}, 4));
    CudaMatmulCall call;
    call.a = gpu_dy.get(), call.b = gpu_x.get(), call.output = gpu_dw.get();
    call.transpose_a = true, call.accumulate = true;
    call.epilogue = MatmulEpilogue::sums;
    call.bias = sums.get();
    if (!gpu().ops().matmul().try_run(gpu().compute(), call)) {
        WARN("cuBLASLt has no algorithm for " << s.out << " x " << s.in);
        return;
    }
    CpuOps cpu(2);
    CpuStream host;
    cpu.linear_backward_weight_bias(host, dy.get(), x.get(), dw.get(), zero.get());
    check_close(gpu_dw.download().values(), dw.values(), product_tolerance(DType::f32), "product");
    check_close(sums.download().values(), zero.values(), product_tolerance(DType::f32), "sums");
}

TEST_CASE("the gradients of weight and bias are the CPU's, in one pass or two, as is faster",
          "[gpu][matmul]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const bool tune = GENERATE(false, true);
    const Sizes s = GENERATE(Sizes{1, 1, 1}, Sizes{33, 7, 257}, Sizes{257, 64, 80});
    const std::vector<OwnedTensor> tensors{
        random_tensor(type, {s.tokens, s.out}, 1), random_tensor(type, {s.tokens, s.in}, 2),
        random_tensor(DType::f32, {s.out, s.in}, 3), random_tensor(DType::f32, {s.out}, 4)};
    // Twice: what is measured before the first must not have touched what is added to.
    const Operation twice = [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        for (int i = 0; i < 2; ++i) {
            ops.linear_backward_weight_bias(stream, t[0], t[1], t[2], t[3]);
        }
    };
    const size_t output = GENERATE(2, 3);
    CudaDevice device(0, CudaOpsOptions{.tune_matmul = tune});
    const Outcome got = run_on(device, tensors, output, twice);
    CpuOps cpu(2);
    CpuStream host;
    twice(cpu, host, {tensors[0].get(), tensors[1].get(), tensors[2].get(), tensors[3].get()});
    check_close(got.values, tensors[output].values(), product_tolerance(DType::f32), "gradient");
    const bool compared = got.algorithms.find("in one pass") != std::string::npos;
    CHECK((!compared || tune));
#ifdef TRIREME_CUDA_EMULATED
    CHECK(compared == tune);
#endif
}

TEST_CASE("of two ways to a product the faster is taken, measured once", "[gpu][matmul]") {
    const GpuTensor a(OwnedTensor(DType::f32, {64, 64})), output(OwnedTensor(DType::f32, {64, 64}));
    const GpuTensor sums(OwnedTensor(DType::f32, {64}));
    CudaMatmulCall call;
    call.a = a.get(), call.b = a.get(), call.output = output.get(), call.bias = sums.get();
    call.transpose_a = true, call.accumulate = true;
    call.epilogue = MatmulEpilogue::sums;
    if (!gpu().ops().matmul().try_run(gpu().compute(), call)) {
        WARN("cuBLASLt has no algorithm");
        return;
    }
    CudaDevice plain(0, CudaOpsOptions{}), tuned(0, CudaOpsOptions{.tune_matmul = true});
    int runs = 0;
    const auto pays = [&](CudaDevice& device, int products_together, int products_apart) {
        const auto times = [&](int products) {
            return [&, products](const Tensor& trial, const Tensor&) {
                for (int i = 0; i < products; ++i) {
                    device.ops().linear_backward_weight(device.compute(), a.get(), a.get(), trial);
                }
                ++runs;
            };
        };
        return device.ops().matmul().pays(device.compute(), call, times(products_together),
                                          times(products_apart));
    };
    CHECK(pays(tuned, 1, 40));
    const int measured = runs;
    CHECK(measured > 0);
    CHECK(pays(tuned, 40, 1));  // known now: not even what is asked for is looked at
    CHECK(runs == measured);
    call.accumulate = false;  // another product
    CHECK_FALSE(pays(tuned, 40, 1));
    CHECK(runs > measured);
    const int measured_both = runs;
    CHECK_FALSE(pays(plain, 1, 40));
    CHECK(runs == measured_both);
}

TEST_CASE("without memory to measure in, the first algorithm is taken", "[gpu][matmul]") {
    CudaDevice device(0, CudaOpsOptions{.tune_matmul = true});
    bool refuses = false;
    device.set_memory_source({[&](size_t bytes) -> void* {
                                  void* memory = nullptr;
                                  if (!refuses) cudaMalloc(&memory, bytes);
                                  return memory;
                              },
                              [](void* memory) { cudaFree(memory); }});
    const Operation small = [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.linear_forward(stream, t[0].row_range(0, 1), t[1], {}, t[2].row_range(0, 1));
    };
    const Operation all = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        small(ops, stream, t);  // takes the workspace
        refuses = true;
        ops.linear_forward(stream, t[0], t[1], {}, t[2]);
    };
    const std::vector<OwnedTensor> tensors{random_tensor(DType::bf16, {16, 32}, 1),
                                           random_tensor(DType::bf16, {24, 32}, 2),
                                           OwnedTensor(DType::f32, {16, 24})};
    const Outcome got = run_on(device, tensors, 2, all);
    CudaDevice plain(0, CudaOpsOptions{});
    const Outcome want = run_on(plain, tensors, 2, all);
    check_close(got.values, want.values, product_tolerance(DType::f32), "product");
    const auto measured = got.algorithms.find("fastest of");
    REQUIRE(measured != std::string::npos);
    CHECK(got.algorithms.find("fastest of", measured + 1) == std::string::npos);
}

}  // namespace trireme::test
