#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

constexpr float kEps = 1e-5f;

struct HeadNormCase {
    int64_t rows;
    int heads, kv_heads;
    int64_t head_dim;
    int64_t offset = 0;  // of qkv in its tensor

    int64_t cols() const { return (heads + 2 * kv_heads) * head_dim; }
    Tensor view(const Tensor& flat) const {
        return flat.flat_range(offset, rows * cols()).reshaped({rows, cols()});
    }
};

}  // namespace

TEST_CASE("the GPU's norms of heads are the CPU's, forward and back", "[gpu][head_norm]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    // Whole packs and single elements, heads wider than a warp's packs, rows of several blocks,
    // unaligned views, no key heads, weights too wide for several warps' sums.
    const HeadNormCase c =
        GENERATE(HeadNormCase{1, 1, 1, 1}, HeadNormCase{7, 6, 2, 10}, HeadNormCase{21, 6, 2, 64},
                 HeadNormCase{5, 3, 1, 128}, HeadNormCase{5, 6, 2, 64, 1},
                 HeadNormCase{3, 2, 1, 520}, HeadNormCase{2, 1, 0, 66},
                 HeadNormCase{2, 1, 1, kMostNormedHead}, HeadNormCase{0, 6, 2, 8});
    CAPTURE(name_of(type), c.rows, c.heads, c.head_dim, c.offset);
    const int64_t flat_size = c.offset + c.rows * c.cols();
    const Tolerance sums{1e-5, 2e-5};
    compare_devices(
        {random_tensor(type, {flat_size}, 1, -2.0, 3.0), random_tensor(type, {c.head_dim}, 2),
         random_tensor(type, {c.head_dim}, 3), OwnedTensor(type, {flat_size}),
         random_tensor(type, {flat_size}, 4), random_tensor(DType::f32, {c.head_dim}, 5),
         random_tensor(DType::f32, {c.head_dim}, 6)},
        {kSameValues, kSameValues, kSameValues, one_step(type), one_step(type), sums, sums},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            ops.head_norm_forward(stream, c.view(t[0]), t[1], t[2], kEps, c.heads, c.kv_heads,
                                  c.view(t[3]));
            ops.head_norm_backward(stream, c.view(t[0]), t[1], t[2], kEps, c.heads, c.kv_heads,
                                   c.view(t[4]), t[5], t[6]);
        },
        "norms of heads");
}

}  // namespace trireme::test
