#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

constexpr int64_t kVocabulary = 257;

// Loss of each row over the valid columns, 0 where the label is negative.
Doubles loss_reference(const Doubles& logits, int64_t cols, int64_t valid_cols,
                       const Doubles& labels) {
    Doubles losses;
    for (size_t n = 0; n < labels.size(); ++n) {
        const double* row = &logits[n * cols];
        double most = row[0];
        for (int64_t c = 0; c < valid_cols; ++c) most = std::max(most, row[c]);
        double sum = 0.0;
        for (int64_t c = 0; c < valid_cols; ++c) sum += std::exp(row[c] - most);
        const double label = labels[n];
        losses.push_back(label < 0 ? 0.0
                                   : std::log(sum) + most - row[static_cast<int64_t>(label)]);
    }
    return losses;
}

OwnedTensor make_labels(int64_t rows, int64_t valid_cols) {
    OwnedTensor labels(DType::i32, {rows});
    for (int64_t n = 0; n < rows; ++n) {
        labels.set(n, n % 3 == 1 ? -1.0 : static_cast<double>((n * 89 + 200) % valid_cols));
    }
    return labels;
}

struct CrossEntropyResult {
    OwnedTensor losses, dlogits;
};

// The three steps over equal parts of the vocabulary, with the reductions between them by hand.
CrossEntropyResult run_split(int parts, int threads, const OwnedTensor& logits, int64_t valid_cols,
                             const OwnedTensor& labels, float scale, DType gradient_type,
                             bool in_place) {
    const int64_t rows = logits.get().rows();
    const int64_t cols = logits.get().cols();
    const int64_t part_cols = (cols + parts - 1) / parts;
    CpuOps ops(threads);
    CpuStream stream;
    std::vector<OwnedTensor> x, maxima, sums;
    const auto valid_in = [&](int p) {
        return std::clamp<int64_t>(valid_cols - p * part_cols, 0, part_cols);
    };
    for (int p = 0; p < parts; ++p) {
        // Padding holds a value that would spoil everything if it counted.
        x.emplace_back(DType::f32, Shape{rows, part_cols}, Doubles(rows * part_cols, 1e6));
        for (int64_t n = 0; n < rows; ++n) {
            for (int64_t c = 0; c < valid_in(p); ++c) {
                x[p].set(n * part_cols + c, logits.at(n * cols + p * part_cols + c));
            }
        }
        maxima.emplace_back(DType::f32, Shape{rows});
        sums.emplace_back(DType::f32, Shape{2, rows});
        ops.cross_entropy_max(stream, x[p], valid_in(p), maxima[p]);
    }
    for (int64_t n = 0; n < rows; ++n) {
        double most = -INFINITY;
        for (const OwnedTensor& m : maxima) most = std::max(most, m.at(n));
        for (OwnedTensor& m : maxima) m.set(n, most);
    }
    for (int p = 0; p < parts; ++p) {
        ops.cross_entropy_exp(stream, x[p], valid_in(p), maxima[p], labels, p * part_cols, sums[p]);
    }
    for (int64_t i = 0; i < 2 * rows; ++i) {
        double total = 0.0;
        for (const OwnedTensor& s : sums) total += s.at(i);
        for (OwnedTensor& s : sums) s.set(i, total);
    }
    CrossEntropyResult result{OwnedTensor(DType::f32, {rows}),
                              OwnedTensor(gradient_type, {rows, cols})};
    for (int p = 0; p < parts; ++p) {
        OwnedTensor separate(gradient_type, {rows, part_cols}, Doubles(rows * part_cols, 3.0));
        OwnedTensor& d = in_place ? x[p] : separate;
        ops.cross_entropy_finish(stream, x[p], valid_in(p), labels, p * part_cols, sums[p], scale,
                                 result.losses, d);
        for (int64_t i = 0; i < rows * part_cols; ++i) {
            const int64_t col = p * part_cols + i % part_cols;
            if (col < cols) result.dlogits.set(i / part_cols * cols + col, d.at(i));
        }
    }
    return result;
}

}  // namespace

TEST_CASE("cross entropy and its gradient follow the double reference on any vocabulary split",
          "[core][cross_entropy]") {
    const int parts = GENERATE(1, 2, 3);
    const int64_t rows = GENERATE(1, 3, 7);
    const int64_t valid_cols = GENERATE(257, 250, 100);  // 100: parts of padding only
    const DType gradient_type = GENERATE(DType::f32, DType::bf16);
    const bool in_place = gradient_type == DType::f32 && GENERATE(true, false);
    CAPTURE(parts, rows, valid_cols, name_of(gradient_type), in_place);
    const float scale = 0.125f;
    const OwnedTensor logits = random_tensor(DType::f32, {rows, kVocabulary}, 1, -30.0, 30.0);
    const OwnedTensor labels = make_labels(rows, valid_cols);
    const CrossEntropyResult r =
        run_split(parts, 2, logits, valid_cols, labels, scale, gradient_type, in_place);
    check_close(r.losses.values(),
                loss_reference(logits.values(), kVocabulary, valid_cols, labels.values()),
                {2e-6, 4e-6}, "losses");
    const auto loss = [&](const Doubles& v) {
        double sum = 0.0;
        for (double l : loss_reference(v, kVocabulary, valid_cols, labels.values())) sum += l;
        return sum * double{scale};
    };
    check_gradient(loss, logits.values(), r.dlogits.values(), one_rounding(gradient_type),
                   "dlogits");
    for (int64_t i = 0; i < rows * kVocabulary; ++i) {
        if (i % kVocabulary >= valid_cols || labels.at(i / kVocabulary) < 0) {
            REQUIRE(r.dlogits.at(i) == 0.0);
        }
    }
}

TEST_CASE("cross entropy gives losses alone when no gradient is asked", "[core][cross_entropy]") {
    const OwnedTensor logits = random_tensor(DType::f32, {3, 33}, 1);
    const OwnedTensor labels = make_labels(3, 33);
    OwnedTensor x = logits;
    OwnedTensor maxima(DType::f32, {3}), sums(DType::f32, {2, 3}), losses(DType::f32, {3});
    CpuOps ops(1);
    CpuStream stream;
    ops.cross_entropy_max(stream, x, 33, maxima);
    ops.cross_entropy_exp(stream, x, 33, maxima, labels, 0, sums);
    ops.cross_entropy_finish(stream, x, 33, labels, 0, sums, 1.0f, losses, Tensor());
    check_close(losses.values(), loss_reference(logits.values(), 33, 33, labels.values()),
                {2e-6, 2e-6}, "losses");
}

TEST_CASE("huge logits neither overflow nor lose the loss", "[core][cross_entropy]") {
    OwnedTensor logits(DType::f32, {1, 5}, {1e30, -1e30, 1e30, 0.0, 88.0});
    const OwnedTensor labels(DType::i32, {1}, {2.0});
    const CrossEntropyResult r = run_split(1, 1, logits, 5, labels, 1.0f, DType::f32, true);
    CHECK(r.losses.at(0) == Approx(std::log(2.0)));
    CHECK(r.dlogits.values() == Doubles{0.5, 0.0, -0.5, 0.0, 0.0});
}

TEST_CASE("a NaN among the logits reaches the loss", "[core][cross_entropy]") {
    OwnedTensor logits = random_tensor(DType::f32, {1, 33}, 1);
    logits.set(17, NAN);
    const OwnedTensor labels(DType::i32, {1}, {2.0});
    const CrossEntropyResult r = run_split(1, 1, logits, 33, labels, 1.0f, DType::f32, true);
    CHECK(std::isnan(r.losses.at(0)));
}

TEST_CASE("cross entropy gives the same bits on any number of threads", "[core][cross_entropy]") {
    const OwnedTensor logits = random_tensor(DType::f32, {131, 1030}, 1, -10.0, 10.0);
    const OwnedTensor labels = make_labels(131, 1030);
    const CrossEntropyResult one =
        run_split(1, 1, logits, 1030, labels, 1.0f, DType::f32, true);
    const CrossEntropyResult three =
        run_split(1, 3, logits, 1030, labels, 1.0f, DType::f32, true);
    CHECK(one.losses.bytes() == three.losses.bytes());
    CHECK(one.dlogits.bytes() == three.dlogits.bytes());
}

}  // namespace trireme::test
