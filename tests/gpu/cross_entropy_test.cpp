#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

// One rank's part of a vocabulary: its logits are columns first_row to first_row + cols.
struct Part {
    int64_t cols;
    int64_t valid_cols;
    int64_t first_row;
};

// Labels of the part and of others, every third of them absent.
OwnedTensor make_labels(int64_t rows, const Part& part) {
    OwnedTensor labels(DType::i32, {rows});
    for (int64_t n = 0; n < rows; ++n) {
        const int64_t label = (n * 89 + 5) % (part.first_row + part.cols + 10);
        labels.set(n, n % 3 == 1 ? -1.0 : static_cast<double>(label));
    }
    if (rows > 2) labels.set(2, static_cast<double>(part.first_row + part.valid_cols - 1));
    return labels;
}

// The tensors of run_steps. What the operations must overwrite is not zero.
std::vector<OwnedTensor> make_tensors(int64_t rows, const Part& part, DType gradient_type) {
    OwnedTensor logits = random_tensor(DType::f32, {rows, part.cols}, 1, -30.0, 30.0);
    for (int64_t i = 0; i < logits.size(); ++i) {
        if (i % part.cols >= part.valid_cols) logits.set(i, 1e6);  // padding
    }
    return {logits,
            make_labels(rows, part),
            OwnedTensor(DType::f32, {rows}, Doubles(static_cast<size_t>(rows), 3.0)),
            OwnedTensor(DType::f32, {2, rows}, Doubles(static_cast<size_t>(2 * rows), 3.0)),
            OwnedTensor(DType::f32, {rows}, Doubles(static_cast<size_t>(rows), 3.0)),
            OwnedTensor(gradient_type, {rows, part.cols},
                        Doubles(static_cast<size_t>(rows * part.cols), 3.0))};
}

enum class Gradient { absent, in_place, elsewhere };

// The three steps without the reductions between them: the part is then the whole vocabulary.
Operation run_steps(const Part& part, Gradient gradient) {
    return [=](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        const Tensor &x = t[0], &labels = t[1], &maxima = t[2], &sums = t[3];
        ops.cross_entropy_max(stream, x, part.valid_cols, maxima);
        ops.cross_entropy_exp(stream, x, part.valid_cols, maxima, labels, part.first_row, sums);
        ops.cross_entropy_finish(stream, x, part.valid_cols, labels, part.first_row, sums, 0.125f,
                                 t[4],
                                 gradient == Gradient::absent     ? Tensor()
                                 : gradient == Gradient::in_place ? x
                                                                  : t[5]);
    };
}

}  // namespace

TEST_CASE("cross entropy on the GPU follows the CPU", "[gpu][cross_entropy]") {
    const Part part =
        GENERATE(Part{257, 257, 0}, Part{257, 250, 100}, Part{260, 257, 514}, Part{64, 64, 64},
                 Part{64, 3, 7}, Part{9000, 8999, 11}, Part{2500, 2500, 0}, Part{2501, 2499, 3});
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Gradient gradient = type == DType::f32 ? GENERATE(Gradient::in_place, Gradient::elsewhere)
                                                 : GENERATE(Gradient::absent, Gradient::elsewhere);
    const int64_t rows = GENERATE(1, 4);
    CAPTURE(part.cols, part.valid_cols, part.first_row, name_of(type), rows, gradient);
    const auto tensors = make_tensors(rows, part, type);
    const Operation operation = run_steps(part, gradient);
    const Tolerance f32{2e-6, 1e-7};
    compare_devices(tensors,
                    {f32,
                     kSameValues,
                     kSameValues,
                     {2e-6, 4e-6},
                     {2e-6, 4e-6},
                     type == DType::bf16 ? Tolerance{1.0 / 128, 1e-7} : f32},
                    operation, "cross entropy");
    if (gradient == Gradient::in_place) check_repeatable(tensors, operation);
}

TEST_CASE("cross entropy on the GPU takes a part without valid columns", "[gpu][cross_entropy]") {
    // As on the last rank of a padded vocabulary, whose maxima come from the other ranks.
    const Part part{64, 0, 128};
    const auto tensors = make_tensors(5, part, DType::bf16);
    compare_devices(
        tensors, {{1e-7, 1e-300}},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.cross_entropy_finish(stream, t[0], 0, t[1], 128, t[3], 1.0f, t[4], t[5]);
            ops.cross_entropy_exp(stream, t[0], 0, t[2], t[1], 128, t[3]);
        },
        "padding only");
    const GpuTensor logits(tensors[0]), row_max(tensors[2]);
    gpu().ops().cross_entropy_max(gpu().compute(), logits.get(), 0, row_max.get());
    CHECK(row_max.download().values() == Doubles(5, -INFINITY));
}

TEST_CASE("cross entropy on the GPU takes rows that start anywhere in memory",
          "[gpu][cross_entropy]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t offset = GENERATE(1, 4);
    const Part part{64, 61, 0};
    const int64_t rows = 5;
    std::vector<OwnedTensor> tensors = make_tensors(rows, part, type);
    tensors.push_back(random_tensor(DType::f32, {rows * part.cols + offset}, 1, -9.0, 9.0));
    tensors.push_back(random_tensor(type, {rows * part.cols + offset}, 2));
    const Tolerance f32{2e-6, 1e-7};
    const Tolerance loss{2e-6, 4e-6};
    compare_devices(
        tensors,
        {kSameValues, kSameValues, kSameValues, loss, loss, kSameValues, f32,
         type == DType::bf16 ? Tolerance{1.0 / 128, 1e-7} : f32},
        [&](Ops& ops, Stream& stream, std::vector<Tensor> t) {
            const auto matrix = [&](const Tensor& x) {
                return x.flat_range(offset, rows * part.cols).reshaped({rows, part.cols});
            };
            t[0] = matrix(t[6]);
            t[5] = matrix(t[7]);
            run_steps(part, Gradient::elsewhere)(ops, stream, t);
        },
        "cross entropy");
}

TEST_CASE("a NaN among the logits reaches the loss on the GPU", "[gpu][cross_entropy]") {
    const Part part{64, 64, 0};
    auto tensors = make_tensors(1, part, DType::f32);
    tensors[0].set(17, NAN);
    std::vector<GpuTensor> on_gpu;
    std::vector<Tensor> views;
    for (const OwnedTensor& tensor : tensors) on_gpu.emplace_back(tensor);
    for (const GpuTensor& tensor : on_gpu) views.push_back(tensor.get());
    run_steps(part, Gradient::in_place)(gpu().ops(), gpu().compute(), views);
    CHECK(std::isfinite(on_gpu[2].download().at(0)));
    CHECK(std::isnan(on_gpu[4].download().at(0)));
}

}  // namespace trireme::test
