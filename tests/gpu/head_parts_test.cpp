#include "core/head_parts.h"

#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

struct HeadPartsCase {
    HeadParts shape;
    int64_t rows;
    int64_t offset = 0;  // of both in their tensors

    int64_t whole_size() const { return rows * shape.width(); }
    int64_t parts_size() const { return shape.parts * rows * shape.part_width(); }
    Tensor whole(const Tensor& flat) const {
        return flat.flat_range(offset, whole_size()).reshaped({rows, shape.width()});
    }
    Tensor parts(const Tensor& flat) const {
        return flat.flat_range(offset, parts_size())
            .reshaped({shape.parts, rows, shape.part_width()});
    }
};

// Both ways. Sums are made in the same order, so no bit may differ.
void compare_head_parts(DType type, const HeadPartsCase& c) {
    const OwnedTensor whole = random_tensor(type, {c.offset + c.whole_size()}, 1);
    const OwnedTensor parts = random_tensor(type, {c.offset + c.parts_size()}, 2);
    compare_devices(
        {whole, OwnedTensor(type, parts.get().shape), parts, OwnedTensor(type, whole.get().shape)},
        {kSameValues},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.split_heads(stream, c.shape, c.whole(t[0]), c.parts(t[1]));
            ops.join_heads(stream, c.shape, c.parts(t[2]), c.whole(t[3]));
        },
        "heads among parts");
}

}  // namespace

TEST_CASE("the GPU splits heads among parts and joins them to the bit as the CPU does",
          "[gpu][head_parts]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    // Whole packs and single elements, one part, key/value heads that parts share, by twos to
    // sixes, none of them, views that are not aligned, rows of several blocks, and no rows.
    const HeadPartsCase c =
        GENERATE(HeadPartsCase{{1, 6, 2, 8}, 3}, HeadPartsCase{{2, 6, 2, 5}, 37},
                 HeadPartsCase{{2, 6, 2, 64}, 37}, HeadPartsCase{{6, 6, 2, 8}, 37},
                 HeadPartsCase{{6, 6, 1, 64}, 3}, HeadPartsCase{{4, 8, 2, 5}, 7},
                 HeadPartsCase{{3, 3, 1, 64}, 1}, HeadPartsCase{{3, 6, 0, 64}, 5},
                 HeadPartsCase{{3, 6, 1, 64}, 5, 1}, HeadPartsCase{{3, 6, 1, 64}, 5, 8},
                 HeadPartsCase{{4, 16, 4, 136}, 3}, HeadPartsCase{{2, 6, 2, 8}, 0});
    CAPTURE(name_of(type), c.shape.parts, c.shape.heads, c.shape.kv_heads, c.shape.head_dim, c.rows,
            c.offset);
    compare_head_parts(type, c);
}

TEST_CASE("the GPU splits and joins the heads of more rows than its grid has",
          "[gpu][head_parts]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    // More than the largest grid has threads for, so that its threads loop.
    const HeadPartsCase c{{2, 2, 1, 1}, 132 * 16 * 64 + 3};
    CAPTURE(name_of(type));
    compare_head_parts(type, c);
}

TEST_CASE("the GPU's split and join of heads refuse parts that do not fit", "[gpu][head_parts]") {
    const HeadParts s{2, 6, 2, 8};
    const GpuTensor whole(OwnedTensor(DType::f32, {3, s.width()}));
    const GpuTensor parts(OwnedTensor(DType::f32, {2, 2, s.part_width()}));
    Ops& ops = gpu().ops();
    CHECK_THROWS_AS(ops.split_heads(gpu().compute(), s, whole.get(), parts.get()), InternalError);
    CHECK_THROWS_AS(ops.join_heads(gpu().compute(), s, parts.get(), whole.get()), InternalError);
}

}  // namespace trireme::test
