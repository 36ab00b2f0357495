#include "core/head_parts.h"

#include "tests/core/test_support.h"

namespace trireme::test {

namespace {

// Heads of a part in the order of its row, counted along the whole row: its share of the query
// heads, and the keys and values that those attend with.
std::vector<int> heads_of_part(const HeadParts& s, int part) {
    std::vector<int> queries, keys, values;
    for (int h = 0; h < s.heads; ++h) {
        if (h * s.parts / s.heads != part) continue;
        queries.push_back(h);
        if (s.kv_heads == 0) continue;
        const int key = s.heads + h / (s.heads / s.kv_heads);
        if (!keys.empty() && keys.back() == key) continue;
        keys.push_back(key);
        values.push_back(key + s.kv_heads);
    }
    queries.insert(queries.end(), keys.begin(), keys.end());
    queries.insert(queries.end(), values.begin(), values.end());
    return queries;
}

// For each element of all parts, in order, where it is in the whole rows.
std::vector<int64_t> sources(const HeadParts& s, int64_t rows) {
    std::vector<int64_t> from;
    for (int part = 0; part < s.parts; ++part) {
        for (int64_t row = 0; row < rows; ++row) {
            for (const int head : heads_of_part(s, part)) {
                for (int i = 0; i < s.head_dim; ++i) {
                    from.push_back((row * (s.heads + 2 * s.kv_heads) + head) * s.head_dim + i);
                }
            }
        }
    }
    return from;
}

Doubles split_reference(const HeadParts& s, int64_t rows, const Doubles& x) {
    Doubles parts;
    for (const int64_t from : sources(s, rows)) parts.push_back(x[static_cast<size_t>(from)]);
    return parts;
}

// Rounded to f32 after each addition, and to the type at last.
OwnedTensor join_reference(const HeadParts& s, int64_t rows, const OwnedTensor& parts) {
    OwnedTensor sums(DType::f32, {rows, s.width()});
    int64_t at = 0;
    for (const int64_t to : sources(s, rows)) sums.set(to, sums.at(to) + parts.at(at++));
    return OwnedTensor(parts.get().dtype, {rows, s.width()}, sums.values());
}

struct HeadPartsCase {
    int heads, kv_heads, parts;
    bool shares;
};

}  // namespace

TEST_CASE("heads are split among parts and joined again as the reference does",
          "[core][head_parts]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int head_dim = GENERATE(5, 8, 64);
    const int64_t rows = GENERATE(1, 37);
    const HeadPartsCase c = GENERATE(HeadPartsCase{6, 2, 1, false}, HeadPartsCase{6, 2, 2, false},
                                     HeadPartsCase{6, 2, 6, true}, HeadPartsCase{6, 1, 3, true},
                                     HeadPartsCase{3, 1, 3, true}, HeadPartsCase{8, 2, 4, true},
                                     HeadPartsCase{6, 6, 3, false}, HeadPartsCase{6, 0, 3, false},
                                     HeadPartsCase{5, 0, 1, false});
    const HeadParts s{c.parts, c.heads, c.kv_heads, head_dim};
    CAPTURE(name_of(type), head_dim, rows, c.heads, c.kv_heads, c.parts);
    const OwnedTensor x = random_tensor(type, {1, rows, s.width()}, 1);
    OwnedTensor parts(type, {c.parts, rows, s.part_width()});
    OwnedTensor joined(type, {1, rows, s.width()});
    CpuOps ops(3);
    CpuStream stream;
    ops.split_heads(stream, s, x, parts);
    REQUIRE(parts.values() == split_reference(s, rows, x.values()));
    ops.join_heads(stream, s, parts, joined);
    if (c.shares) {
        REQUIRE(joined.values() == join_reference(s, rows, parts).values());
    } else {
        REQUIRE(joined.bytes() == x.bytes());
    }

    // What comes back is not what was sent: gradients.
    const OwnedTensor y = random_tensor(type, {c.parts * rows, s.part_width()}, 2);
    ops.join_heads(stream, s, y, joined);
    REQUIRE(joined.values() == join_reference(s, rows, y).values());
}

TEST_CASE("joining heads is the gradient of splitting them", "[core][head_parts]") {
    const HeadParts s = GENERATE(HeadParts{2, 6, 2, 5}, HeadParts{6, 6, 2, 8},
                                 HeadParts{3, 6, 1, 5}, HeadParts{3, 6, 0, 8});
    CAPTURE(s.parts, s.kv_heads, s.head_dim);
    const int64_t rows = 7;
    const OwnedTensor x = random_tensor(DType::f32, {rows, s.width()}, 1);
    const OwnedTensor y = random_tensor(DType::f32, {s.parts, rows, s.part_width()}, 2);
    const OwnedTensor split(DType::f32, {s.parts, rows, s.part_width()});
    const OwnedTensor joined(DType::f32, {rows, s.width()});
    CpuOps ops(1);
    CpuStream stream;
    ops.split_heads(stream, s, x, split);
    ops.join_heads(stream, s, y, joined);
    CHECK(dot(split.values(), y.values()) ==
          Approx(dot(x.values(), joined.values())).epsilon(1e-6).margin(1e-5));
}

TEST_CASE("heads among parts take no rows and refuse sizes that do not fit", "[core][head_parts]") {
    const HeadParts s{2, 6, 2, 5};
    const OwnedTensor rows(DType::f32, {3, s.width()});
    const OwnedTensor parts(DType::f32, {2, 3, s.part_width()});
    CpuOps ops(1);
    CpuStream stream;
    const auto refuses = [&](const HeadParts& shape, const Tensor& whole, const Tensor& of_parts) {
        CHECK_THROWS_AS(ops.split_heads(stream, shape, whole, of_parts), InternalError);
        CHECK_THROWS_AS(ops.join_heads(stream, shape, of_parts, whole), InternalError);
    };
    ops.split_heads(stream, s, rows, parts);
    ops.split_heads(stream, s, rows.get().row_range(0, 0), parts.get().row_range(0, 0));
    ops.join_heads(stream, s, parts.get().row_range(0, 0), rows.get().row_range(0, 0));
    refuses({0, 6, 2, 5}, rows, parts);
    refuses({4, 6, 2, 5}, rows, parts);  // query heads
    refuses({2, 6, 3, 5}, rows, parts);  // key/value heads
    refuses({2, 6, 2, 6}, rows, parts);
    refuses({1, 6, 2, 5}, rows, parts);
    refuses(s, rows.get().row_range(0, 2), parts);
    refuses(s, rows.get().flat_range(0, rows.size()), parts);
    refuses(s, rows, parts.get().row_range(0, 5));
    refuses(s, rows, OwnedTensor(DType::bf16, {2, 3, s.part_width()}));
    const OwnedTensor alone(DType::f32, {3, 30});
    refuses({1, 6, 0, 5}, alone, alone);  // the same memory
    refuses(s, OwnedTensor(DType::i32, {3, s.width()}),
            OwnedTensor(DType::i32, {2, 3, s.part_width()}));
}

}  // namespace trireme::test
