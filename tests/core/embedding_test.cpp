#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

OwnedTensor random_ids(int64_t n, int64_t vocabulary, uint64_t seed) {
    OwnedTensor ids = random_tensor(DType::f32, {n}, seed, 0.0, static_cast<double>(vocabulary));
    return OwnedTensor(DType::i32, {n}, ids.values());
}

}  // namespace

TEST_CASE("embedding rows of two vocabulary parts add up to the whole", "[core][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 3, 7, 131);
    const int64_t cols = GENERATE(1, 5, 33, 257);
    const int64_t vocabulary = 57;
    const int64_t split = 31;
    const OwnedTensor table = random_tensor(type, {vocabulary, cols}, 1);
    const OwnedTensor ids = random_ids(rows, vocabulary, 2);
    OwnedTensor low(type, {rows, cols}), high = low;
    CpuOps ops(2);
    CpuStream stream;
    ops.embedding_forward(stream, ids, table.get().row_range(0, split), 0, low);
    ops.embedding_forward(stream, ids, table.get().row_range(split, vocabulary - split), split,
                          high);
    for (int64_t i = 0; i < rows * cols; ++i) {
        const int64_t id = static_cast<int64_t>(ids.at(i / cols));
        const double want = table.at(id * cols + i % cols);
        REQUIRE(low.at(i) == (id < split ? want : 0.0));
        REQUIRE(high.at(i) == (id < split ? 0.0 : want));
    }
}

TEST_CASE("the embedding's gradient is the sum over the tokens of a row", "[core][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 7, 131);
    const int64_t cols = GENERATE(1, 33, 257);
    const int64_t first_row = 10;
    const int64_t local_rows = 13;
    const OwnedTensor ids = random_ids(rows, 40, 2);  // many outside this part, some repeated
    const OwnedTensor dy = random_tensor(type, {rows, cols}, 3);
    OwnedTensor dtable = random_tensor(DType::f32, {local_rows, cols}, 4);
    OwnedTensor on_threads = dtable;
    Doubles want = dtable.values();
    for (int64_t i = 0; i < rows * cols; ++i) {
        const int64_t row = static_cast<int64_t>(ids.at(i / cols)) - first_row;
        if (row >= 0 && row < local_rows) want[row * cols + i % cols] += dy.at(i);
    }
    CpuOps one(1), three(3);
    CpuStream stream;
    one.embedding_backward(stream, dy, ids, first_row, dtable);
    three.embedding_backward(stream, dy, ids, first_row, on_threads);
    check_close(dtable.values(), want, {1e-6, 1e-6}, "table gradient");
    CHECK(dtable.bytes() == on_threads.bytes());
}

TEST_CASE("positions wrap at the sequence length and start at the first token",
          "[core][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t rows = GENERATE(1, 7, 211);
    const int64_t cols = GENERATE(5, 257);
    const int64_t first_token = 3;
    const int64_t sequence = 5;
    const OwnedTensor table = random_tensor(type, {sequence + 1, cols}, 1);
    const OwnedTensor before = random_tensor(type, {rows, cols}, 2);
    OwnedTensor y = before;
    OwnedTensor dtable = random_tensor(DType::f32, {sequence + 1, cols}, 3);
    OwnedTensor on_threads = dtable;
    Doubles want = before.values();
    Doubles want_table = dtable.values();
    for (int64_t i = 0; i < rows * cols; ++i) {
        const int64_t at = (first_token + i / cols) % sequence * cols + i % cols;
        want[i] += table.at(at);
        want_table[at] += before.at(i);
    }
    CpuOps one(1), three(3);
    CpuStream stream;
    three.position_forward(stream, table, first_token, sequence, Tensor(), y);
    one.position_backward(stream, before, first_token, sequence, Tensor(), dtable);
    three.position_backward(stream, before, first_token, sequence, Tensor(), on_threads);
    check_close(y.values(), want, one_rounding(type), "positions");
    check_close(dtable.values(), want_table, {1e-5, 1e-5}, "position gradient");
    CHECK(dtable.bytes() == on_threads.bytes());
}

TEST_CASE("positions count from where a document begins", "[core][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t cols = GENERATE(5, 257);
    // Two sequences of 7 tokens, from the third token of the first on.
    const std::vector<double> begins{0, 3, 3, 3, 6, 0, 1, 1, 1, 1, 5, 5};
    const std::vector<int64_t> positions{2, 0, 1, 2, 0, 0, 0, 1, 2, 3, 0, 1};
    const auto rows = static_cast<int64_t>(begins.size());
    const OwnedTensor documents(DType::i32, {rows}, begins);
    const OwnedTensor table = random_tensor(type, {8, cols}, 1);
    const OwnedTensor before = random_tensor(type, {rows, cols}, 2);
    OwnedTensor y = before;
    OwnedTensor dtable = random_tensor(DType::f32, {8, cols}, 3);
    Doubles want = before.values();
    Doubles want_table = dtable.values();
    for (int64_t i = 0; i < rows * cols; ++i) {
        const int64_t at = positions[static_cast<size_t>(i / cols)] * cols + i % cols;
        want[i] += table.at(at);
        want_table[at] += before.at(i);
    }
    CpuOps ops(2);
    CpuStream stream;
    ops.position_forward(stream, table, 2, 7, documents, y);
    ops.position_backward(stream, before, 2, 7, documents, dtable);
    check_close(y.values(), want, one_rounding(type), "positions");
    check_close(dtable.values(), want_table, {1e-5, 1e-5}, "position gradient");
    const OwnedTensor short_by_one(DType::i32, {rows - 1});
    CHECK_THROWS_AS(ops.position_forward(stream, table, 2, 7, short_by_one, y), InternalError);
}

TEST_CASE("a sequence longer than the position table is refused", "[core][embedding]") {
    const OwnedTensor table = random_tensor(DType::f32, {4, 3}, 1);
    OwnedTensor y(DType::f32, {5, 3});
    CpuOps ops(1);
    CpuStream stream;
    CHECK_THROWS_AS(ops.position_forward(stream, table, 0, 5, Tensor(), y), InternalError);
}

}  // namespace trireme::test
