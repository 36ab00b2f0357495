#include "core/cuda/sort.h"
#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

constexpr int64_t kVocabulary = 257;

OwnedTensor random_ids(int64_t n, uint64_t seed) {
    OwnedTensor ids = random_tensor(DType::f32, {n}, seed, 0.0, static_cast<double>(kVocabulary));
    return OwnedTensor(DType::i32, {n}, ids.values());
}

// The whole vocabulary, or one rank's part of it.
struct Part {
    int64_t first_row;
    int64_t rows;
};

}  // namespace

TEST_CASE("the GPU looks up the embeddings of its part and clears the others", "[gpu][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Part part = GENERATE(Part{0, kVocabulary}, Part{100, 57});
    const int64_t tokens = GENERATE(1, 67);
    const int64_t cols = GENERATE(1, 257, 1032);
    CAPTURE(name_of(type), part.first_row, tokens, cols);
    compare_devices(
        {random_ids(tokens, 1), random_tensor(type, {part.rows, cols}, 2),
         random_tensor(type, {tokens, cols}, 3)},
        {kSameValues},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.embedding_forward(stream, t[0], t[1], part.first_row, t[2]);
        },
        "embeddings");
}

TEST_CASE("the GPU adds each token's gradient to its row, in the same order each time",
          "[gpu][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const Part part = GENERATE(Part{0, kVocabulary}, Part{100, 57}, Part{256, 1});
    const int64_t tokens = GENERATE(1, 32, 203);
    const int64_t cols = GENERATE(64, 257);
    CAPTURE(name_of(type), part.first_row, tokens, cols);
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.embedding_backward(stream, t[0], t[1], part.first_row, t[2]);
    };
    const std::vector<OwnedTensor> tensors{random_tensor(type, {tokens, cols}, 1),
                                           random_ids(tokens, 2),
                                           random_tensor(DType::f32, {part.rows, cols}, 3)};
    compare_devices(tensors, {kSameValues, kSameValues, {1e-6, 2e-6}}, operation, "table gradient");
    check_repeatable(tensors, operation);
}

TEST_CASE("the GPU sums the gradients of an id that comes five hundred times", "[gpu][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    // Before, between and after other ids; alone: runs that fill pieces exactly.
    const int64_t repeated = GENERATE(0, 100, 256);
    const int64_t others = GENERATE(0, 131);
    const int64_t cols = GENERATE(33, 264);
    CAPTURE(name_of(type), repeated, others, cols);
    OwnedTensor ids = random_ids(500 + others, 4);
    for (int64_t i = 0; i < 500; ++i) {
        ids.set((i * 7 + 3) % (500 + others), static_cast<double>(repeated));
    }
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.embedding_backward(stream, t[0], t[1], 0, t[2]);
    };
    const std::vector<OwnedTensor> tensors{random_tensor(type, {500 + others, cols}, 1), ids,
                                           random_tensor(DType::f32, {kVocabulary, cols}, 3)};
    compare_devices(tensors, {kSameValues, kSameValues, {1e-6, 3e-5}}, operation, "table gradient");
    check_repeatable(tensors, operation);
}

TEST_CASE("two ids whose runs share pieces keep apart on the GPU", "[gpu][embedding]") {
    // Runs that end at a piece's end, begin at its begin, and go over several ends.
    const int64_t first_run = GENERATE(31, 32, 33, 64, 65);
    const int64_t second_run = GENERATE(1, 32, 70);
    CAPTURE(first_run, second_run);
    const int64_t tokens = first_run + second_run;
    OwnedTensor ids(DType::i32, {tokens});
    for (int64_t i = first_run; i < tokens; ++i) ids.set(i, 5.0);
    compare_devices(
        {random_tensor(DType::f32, {tokens, 8}, 1), ids, random_tensor(DType::f32, {6, 8}, 3)},
        {kSameValues, kSameValues, {1e-6, 1e-5}},
        [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.embedding_backward(stream, t[0], t[1], 0, t[2]);
        },
        "table gradient");
}

TEST_CASE("embeddings that start anywhere in memory are the same on the GPU", "[gpu][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t tokens = 41;
    const int64_t cols = 64;
    const auto shifted = [](const Tensor& t, int64_t rows) {
        return t.flat_range(1, rows * cols).reshaped({rows, cols});
    };
    const int64_t places = kVocabulary * cols + 1;
    compare_devices(
        {random_ids(tokens + 1, 1), random_tensor(type, {places}, 2),
         random_tensor(type, {tokens * cols + 1}, 3), random_tensor(DType::f32, {places}, 4)},
        {kSameValues, kSameValues, kSameValues, {1e-6, 2e-6}},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            const Tensor ids = t[0].flat_range(1, tokens);
            const Tensor y = shifted(t[2], tokens);
            ops.embedding_forward(stream, ids, shifted(t[1], kVocabulary), 0, y);
            ops.position_forward(stream, shifted(t[1], kVocabulary), 3, 50, Tensor(), y);
            ops.embedding_backward(stream, y, ids, 0, shifted(t[3], kVocabulary));
            ops.position_backward(stream, y, 3, 50, Tensor(), shifted(t[3], kVocabulary));
        },
        "embeddings");
}

TEST_CASE("positions and their gradients on the GPU wrap at the sequence length",
          "[gpu][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t tokens = GENERATE(1, 51);
    const int64_t cols = GENERATE(257, 1032);
    const int64_t sequence = GENERATE(5, 23);
    const int64_t first_token = GENERATE(0, 49);
    CAPTURE(name_of(type), tokens, cols, sequence, first_token);
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.position_forward(stream, t[0], first_token, sequence, Tensor(), t[1]);
        ops.position_backward(stream, t[1], first_token, sequence, Tensor(), t[2]);
    };
    const std::vector<OwnedTensor> tensors{random_tensor(type, {sequence + 1, cols}, 1),
                                           random_tensor(type, {tokens, cols}, 2),
                                           random_tensor(DType::f32, {sequence + 1, cols}, 3)};
    compare_devices(tensors, {kSameValues, kSameValues, {1e-6, 1e-5}}, operation, "positions");
    check_repeatable(tensors, operation);
}

TEST_CASE("positions on the GPU count from where a document begins", "[gpu][embedding]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t cols = GENERATE(33, 264);
    const int64_t length = GENERATE(1, 4, 150);  // of documents
    const int64_t sequence = 150, first_token = 20, tokens = 220;
    CAPTURE(name_of(type), cols, length);
    Doubles begins;
    for (int64_t i = 0; i < tokens; ++i) {
        begins.push_back(static_cast<double>((first_token + i) % sequence / length * length));
    }
    const Operation operation = [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        ops.position_forward(stream, t[0], first_token, sequence, t[3], t[1]);
        ops.position_backward(stream, t[1], first_token, sequence, t[3], t[2]);
    };
    const std::vector<OwnedTensor> tensors{random_tensor(type, {sequence + 1, cols}, 1),
                                           random_tensor(type, {tokens, cols}, 2),
                                           random_tensor(DType::f32, {sequence + 1, cols}, 3),
                                           OwnedTensor(DType::i32, {tokens}, begins)};
    compare_devices(tensors, {kSameValues, kSameValues, {1e-6, 3e-5}, kSameValues}, operation,
                    "positions");
    check_repeatable(tensors, operation);
}

TEST_CASE("no tokens leave the gradients of the tables alone on the GPU", "[gpu][embedding]") {
    compare_devices(
        {OwnedTensor(DType::bf16, {0, 8}), OwnedTensor(DType::i32, {0}),
         random_tensor(DType::f32, {6, 8}, 3)},
        {kSameValues},
        [](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.embedding_backward(stream, t[0], t[1], 0, t[2]);
            ops.position_backward(stream, t[0], 0, 6, Tensor(), t[2]);
        },
        "table gradients");
}

TEST_CASE("the GPU sorts pairs by as many key bits as asked and keeps the order of equals",
          "[gpu][embedding]") {
    const int64_t n = GENERATE(1, 33, 5003);
    const int key_bits = GENERATE(1, 9, 16);
    const double keys_end = static_cast<double>(1 << key_bits);
    const OwnedTensor keys(DType::i32, {n},
                           random_tensor(DType::f32, {n}, 1, 0.0, keys_end).values());
    OwnedTensor values(DType::i32, {n});
    std::vector<std::pair<double, double>> want;
    for (int64_t i = 0; i < n; ++i) {
        values.set(i, static_cast<double>(i));
        want.emplace_back(keys.at(i), values.at(i));
    }
    std::sort(want.begin(), want.end());
    const GpuTensor key(keys), value(values), sorted_key(keys), sorted_value(values);
    const size_t bytes = sort_scratch_bytes(n, key_bits);
    const GpuTensor scratch(OwnedTensor(DType::u8, {static_cast<int64_t>(bytes)}));
    sort_pairs(gpu().compute().handle(), reinterpret_cast<const uint32_t*>(key.get().data),
               reinterpret_cast<uint32_t*>(sorted_key.get().data), value.get().as<int32_t>(),
               sorted_value.get().as<int32_t>(), n, key_bits, scratch.get().data, bytes);
    const OwnedTensor got_keys = sorted_key.download(), got_values = sorted_value.download();
    for (int64_t i = 0; i < n; ++i) {
        REQUIRE(std::pair(got_keys.at(i), got_values.at(i)) == want[static_cast<size_t>(i)]);
    }
}

}  // namespace trireme::test
