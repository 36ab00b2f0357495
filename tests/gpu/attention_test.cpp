#include <initializer_list>

#include "core/cuda/attention.h"
#include "core/cuda/cudnn_attention.h"
#include "core/cuda/tensor_core_attention.h"
#include "tests/gpu/gpu_test_support.h"

namespace trireme::test {

namespace {

AttentionShape shape_of(int64_t batch, int64_t sequence, int heads, int kv_heads, int head_dim,
                        float dropout = 0.0f) {
    AttentionShape s;
    s.batch = batch, s.sequence = sequence;
    s.heads = heads, s.kv_heads = kv_heads, s.head_dim = head_dim;
    s.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    s.dropout.probability = dropout;
    s.dropout.key = make_key(7, "attention");
    s.dropout.stream = 3;
    s.dropout.first_element = 12345678901ull;
    s.heads_global = 2 * heads;  // as on one of two tensor ranks
    return s;
}

struct Shapes {
    explicit Shapes(const AttentionShape& s)
        : qkv{s.batch, s.sequence, static_cast<int64_t>(s.heads + 2 * s.kv_heads) * s.head_dim},
          out{s.batch, s.sequence, static_cast<int64_t>(s.heads) * s.head_dim},
          lse{s.batch, s.heads, s.sequence} {}
    Shape qkv, out, lse;
};

// Results of both passes in tensors that begin as something else.
std::vector<OwnedTensor> attention_tensors(const AttentionShape& s, DType type, double size) {
    const Shapes shapes(s);
    const auto rubbish = [](DType dtype, const Shape& shape) {
        return OwnedTensor(dtype, shape, Doubles(static_cast<size_t>(shape.elements()), 99.0));
    };
    return {random_tensor(type, shapes.qkv, 1, -size, size), random_tensor(type, shapes.out, 2),
            rubbish(type, shapes.out), rubbish(DType::f32, shapes.lse), rubbish(type, shapes.qkv)};
}

// Which kernels the GPU takes: the project's own, or what its operations choose (cuDNN, where it
// is built in, for bf16 without dropout).
enum class Kernels { own, chosen };

// A sixth tensor says where documents begin.
AttentionShape with_documents(AttentionShape s, const std::vector<Tensor>& t) {
    if (t.size() > 5) s.document_begin = t[5];
    return s;
}

Operation forward_of(const AttentionShape& shape, Kernels kernels) {
    return [shape, kernels](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        const AttentionShape s = with_documents(shape, t);
        if (kernels == Kernels::own && &ops == &gpu().ops()) {
            own_attention_forward(handle_of(stream), s, t[0], t[2], t[3]);
        } else {
            ops.attention_forward(stream, s, t[0], t[2], t[3]);
        }
    };
}
Operation backward_of(const AttentionShape& shape, Kernels kernels) {
    return [shape, kernels](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
        const AttentionShape s = with_documents(shape, t);
        if (kernels == Kernels::own && &ops == &gpu().ops()) {
            static Scratch scratch(gpu(), "test");
            own_attention_backward(handle_of(stream), scratch, s, t[1], t[0], t[2], t[3], t[4]);
        } else {
            ops.attention_backward(stream, s, t[1], t[0], t[2], t[3], t[4]);
        }
    };
}

// Forward against the CPU's, then backward of what the CPU's forward gave.
// begins: where documents begin, of every token, or none.
void compare_attention(const AttentionShape& s, DType type, Kernels kernels = Kernels::own,
                       double size = 1.0, const Doubles& begins = {}) {
    const std::string what = "B " + std::to_string(s.batch) + " T " + std::to_string(s.sequence) +
                             " heads " + std::to_string(s.heads) + "/" +
                             std::to_string(s.kv_heads) + " D " + std::to_string(s.head_dim);
    // The CPU and cuDNN may round probabilities to bf16 where they enter a product.
    const bool narrow = type == DType::bf16;
    const Tolerance values =
        narrow ? Tolerance{1.0 / 128, 4e-3 * size} : Tolerance{2e-6, 2e-6 * size};
    const Tolerance gradients =
        narrow ? Tolerance{1.0 / 64, 1e-2 * size} : Tolerance{4e-6, 4e-6 * size};
    std::vector<OwnedTensor> tensors = attention_tensors(s, type, size);
    // Tensor cores and cuDNN's kernels sum the products of scores less exactly than f32 can.
    const bool is_plain = kernels == Kernels::own && !takes_tensor_cores(s, {tensors[0]});
    const double rounding = is_plain ? 2e-6 : 2e-5;
    const Tolerance statistics{rounding, rounding * size * size};
    if (!begins.empty()) tensors.emplace_back(DType::i32, Shape{s.batch, s.sequence}, begins);
    compare_devices(tensors,
                    {kSameValues, kSameValues, values, statistics, kSameValues, kSameValues},
                    forward_of(s, kernels), what + ", forward");
    CpuOps cpu(2);
    CpuStream stream;
    forward_of(s, kernels)(cpu, stream, {tensors.begin(), tensors.end()});
    compare_devices(tensors,
                    {kSameValues, kSameValues, kSameValues, kSameValues, gradients, kSameValues},
                    backward_of(s, kernels), what + ", backward");
}

// length: of most documents.
void compare_documents(std::initializer_list<AttentionShape> shapes, DType type, int length) {
    for (const AttentionShape& s : shapes) {
        CAPTURE(length);
        // The first one of each sequence is cut short, and that more in the second.
        Doubles begins;
        for (int64_t b = 0; b < s.batch; ++b) {
            for (int64_t t = 0; t < s.sequence; ++t) {
                const int64_t cut = 2 * b + 1;
                begins.push_back(
                    static_cast<double>(std::max<int64_t>(0, (t + cut) / length * length - cut)));
            }
        }
        compare_attention(s, type, Kernels::own, 1.0, begins);
        // cuDNN, which knows no documents, must not be chosen.
        compare_attention(s, type, Kernels::chosen, 1.0, begins);
    }
}

}  // namespace

TEST_CASE("the GPU's own attention and its gradient equal the CPU's", "[gpu][attention]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const float dropout = GENERATE(0.0f, 0.3f);
    for (const AttentionShape& s :
         {shape_of(2, 1, 6, 2, 10, dropout), shape_of(2, 7, 6, 2, 64, dropout),
          shape_of(2, 33, 6, 2, 10, dropout), shape_of(2, 70, 6, 2, 16, dropout)}) {
        compare_attention(s, type);
    }
}

TEST_CASE("the GPU's own attention on tensor cores equals the CPU's", "[gpu][attention]") {
    const float dropout = GENERATE(0.0f, 0.3f);
    // 8 and 40: filled up to 64; 72 and 128: tiles of 32 keys in the backward.
    for (const AttentionShape& s :
         {shape_of(2, 1, 6, 2, 8, dropout), shape_of(2, 65, 6, 2, 40, dropout),
          shape_of(1, 131, 4, 2, 64, dropout), shape_of(1, 70, 2, 1, 72, dropout),
          shape_of(1, 98, 2, 2, 128, dropout)}) {
        compare_attention(s, DType::bf16);
    }
    compare_attention(shape_of(1, 90, 1, 1, 64), DType::bf16, Kernels::own, 30.0);
}

TEST_CASE("a large scale and rows that see nothing of their first tile are no infinities",
          "[gpu][attention]") {
    AttentionShape s = shape_of(1, 140, 1, 1, 64);
    s.scale = 1.5f;
    Doubles begins;
    for (int t = 0; t < 140; ++t) begins.push_back(t < 100 ? 0 : 100);
    compare_attention(s, DType::bf16, Kernels::own, 1.0, begins);
}

TEST_CASE("tensor cores are used for bf16 heads of a multiple of 8 at aligned addresses",
          "[gpu][attention]") {
    const AttentionShape s = shape_of(1, 4, 2, 1, 64);
    const OwnedTensor narrow(DType::bf16, {4, 4, 64}), wide(DType::f32, {4, 4, 64});
    const auto takes = [](AttentionShape shape, int head_dim, const Tensor& tensor) {
        shape.head_dim = head_dim;
        return takes_tensor_cores(shape, {tensor});
    };
    for (const int head_dim : {8, 64, 80, 128}) CHECK(takes(s, head_dim, narrow));
    for (const int head_dim : {4, 12, 129, 136}) CHECK_FALSE(takes(s, head_dim, narrow));
    CHECK_FALSE(takes(s, 64, wide));
    AttentionShape negative = s;
    negative.scale = -1.0f;
    CHECK_FALSE(takes(negative, 64, narrow));
    CHECK_FALSE(takes(s, 64, static_cast<const Tensor&>(narrow).flat_range(1, 8)));
}

TEST_CASE("the GPU's attention of the newest queries alone equals the CPU's",
          "[gpu][attention][cudnn]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int64_t first = GENERATE(1, 63, 64, 69, 70);
    const AttentionShape s = GENERATE(shape_of(1, 70, 6, 2, 16), shape_of(1, 70, 2, 1, 128, 0.3f));
    const Tolerance values =
        type == DType::bf16 ? Tolerance{1.0 / 128, 4e-3} : Tolerance{2e-6, 2e-6};
    compare_devices(
        attention_tensors(s, type, 1.0),
        {kSameValues, kSameValues, values, Tolerance{2e-5, 2e-5}, kSameValues},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            // All of them, then the newest again where nothing is.
            ops.attention_forward(stream, s, t[0], t[2], t[3]);
            ops.fill_zero(stream, t[2].row_range(first, s.sequence - first));
            AttentionShape newest = s;
            newest.first_query = static_cast<int>(first);
            ops.attention_forward(stream, newest, t[0], t[2], t[3]);
        },
        "attention of the newest queries");
}

TEST_CASE("the GPU's own attention takes long heads and several tiles", "[gpu][attention]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    // 96 and 128: two chunks of columns; 200 and 256: in two blocks; 129: single elements.
    compare_attention(shape_of(1, 70, 2, 1, 96), type);
    compare_attention(shape_of(1, 5, 2, 2, 128), type);
    compare_attention(shape_of(1, 9, 1, 1, 129, 0.3f), type);
    compare_attention(shape_of(1, 70, 1, 1, 200, 0.3f), type);
    compare_attention(shape_of(1, 3, 2, 1, 256), type);
    compare_attention(shape_of(1, 195, 2, 1, 8, 0.2f), type);
}

// Without it the project's own kernels would do the same, slowly, and no comparison would tell.
TEST_CASE("cuDNN takes the attention of the models that are measured", "[gpu][attention][cudnn]") {
    const auto cudnn = make_cudnn_attention(gpu());
    if (!cudnn) {
        SUCCEED("built without cuDNN");
        return;
    }
    for (const AttentionShape& s : {shape_of(32, 1024, 12, 12, 64), shape_of(16, 1024, 25, 25, 64),
                                    shape_of(4, 4096, 32, 8, 64), shape_of(2, 4096, 24, 8, 128),
                                    shape_of(2, 4096, 32, 8, 128)}) {
        const bool is_supported = cudnn->supports(s);
        INFO(gpu().take_notice());
        CHECK(is_supported);
    }
}

TEST_CASE("the GPU's choice of attention kernels equals the CPU's", "[gpu][attention][cudnn]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const float dropout = GENERATE(0.0f, 0.3f);
    compare_attention(shape_of(2, 33, 4, 2, 16, dropout), type, Kernels::chosen);
    compare_attention(shape_of(1, 66, 2, 1, 64, dropout), type, Kernels::chosen);
    compare_attention(shape_of(1, 9, 2, 1, 12, dropout), type, Kernels::chosen);
    compare_attention(shape_of(2, 1, 2, 2, 64, dropout), type, Kernels::chosen);
}

TEST_CASE("aligned dropout indices give the same mask as on the CPU", "[gpu][attention]") {
    for (uint64_t skip : {0u, 1u, 2u, 3u}) {
        AttentionShape s = shape_of(1, 8, 2, 1, 16, 0.5f);
        s.dropout.first_element = (uint64_t{1} << 34) - 64 + skip;  // the block number's carry
        compare_attention(s, DType::f32);
    }
}

TEST_CASE("the GPU's attention takes tensors at odd addresses", "[gpu][attention]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const AttentionShape s = shape_of(1, 19, 2, 1, 16);
    const Shapes shapes(s);
    const auto with_room = [&](const Shape& shape, uint64_t seed) {
        return random_tensor(type, {shape.elements() + 2}, seed);
    };
    const Tolerance bound = type == DType::bf16 ? Tolerance{1.0 / 64, 1e-2} : Tolerance{4e-6, 4e-6};
    compare_devices(
        {with_room(shapes.qkv, 1), with_room(shapes.out, 2), with_room(shapes.out, 3),
         OwnedTensor(DType::f32, shapes.lse), with_room(shapes.qkv, 4)},
        {bound},
        [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
            const auto inner = [&](int i, const Shape& shape) {
                return t[static_cast<size_t>(i)].flat_range(1, shape.elements());
            };
            ops.attention_forward(stream, s, inner(0, shapes.qkv), inner(2, shapes.out), t[3]);
            ops.attention_backward(stream, s, inner(1, shapes.out), inner(0, shapes.qkv),
                                   inner(2, shapes.out), t[3], inner(4, shapes.qkv));
        },
        "attention at odd addresses");
}

TEST_CASE("the GPU's own attention has the same bits in every run", "[gpu][attention]") {
    const AttentionShape s = GENERATE(shape_of(1, 70, 4, 2, 16, 0.1f),
                                      shape_of(1, 70, 4, 2, 10, 0.1f), shape_of(1, 70, 2, 1, 128));
    check_repeatable(attention_tensors(s, DType::bf16, 1.0),
                     [&](Ops& ops, Stream& stream, const std::vector<Tensor>& t) {
                         forward_of(s, Kernels::own)(ops, stream, t);
                         backward_of(s, Kernels::own)(ops, stream, t);
                     });
}

TEST_CASE("the GPU's attention keeps documents apart as the CPU's", "[gpu][attention]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int length = GENERATE(3, 64);
    compare_documents({shape_of(2, 7, 6, 2, 10, 0.3f), shape_of(2, 70, 4, 2, 16)}, type, length);
}

TEST_CASE("the GPU's attention on tensor cores keeps documents apart", "[gpu][attention]") {
    const int length = GENERATE(3, 50);
    const float dropout = GENERATE(0.0f, 0.3f);
    compare_documents({shape_of(2, 140, 4, 2, 64, dropout), shape_of(1, 70, 2, 1, 96, dropout)},
                      DType::bf16, length);
}

TEST_CASE("a document that begins at a tile's second key hides the first from all later tiles",
          "[gpu][attention]") {
    Doubles begins;
    for (int64_t t = 0; t < 195; ++t) begins.push_back(t < 65 ? 0.0 : 65.0);
    for (const int head_dim : {64, 96}) {
        compare_attention(shape_of(1, 195, 1, 1, head_dim), DType::bf16, Kernels::own, 1.0, begins);
    }
}

TEST_CASE("the GPU's attention keeps documents of any length and over several tiles apart",
          "[gpu][attention][long]") {
    const DType type = GENERATE(DType::f32, DType::bf16);
    const int length = GENERATE(1, 3, 50, 64, 100);
    compare_documents({shape_of(2, 7, 6, 2, 10, 0.3f), shape_of(2, 70, 4, 2, 16)}, type, length);
    compare_documents({shape_of(1, 195, 2, 1, 64), shape_of(1, 140, 1, 1, 96, 0.3f)}, type, length);
}

TEST_CASE("large scores overflow on the GPU no more than on the CPU", "[gpu][attention]") {
    compare_attention(shape_of(1, 90, 1, 1, 8), DType::f32, Kernels::own, 30.0);
}

TEST_CASE("the GPU refuses wrong attention shapes and does nothing for empty ones",
          "[gpu][attention]") {
    AttentionShape s = shape_of(1, 4, 2, 1, 4);
    const GpuTensor small(OwnedTensor(DType::f32, {1, 4, 12}));
    const GpuTensor out(OwnedTensor(DType::f32, {1, 4, 8}));
    const GpuTensor lse(OwnedTensor(DType::f32, {1, 2, 4}));
    Ops& ops = gpu().ops();
    CHECK_THROWS_AS(ops.attention_forward(gpu().compute(), s, small.get(), out.get(), lse.get()),
                    InternalError);
    s.batch = 0;
    const Tensor none(nullptr, DType::f32, {0, 4, 16});
    const Tensor no_out(nullptr, DType::f32, {0, 4, 8});
    const Tensor no_lse(nullptr, DType::f32, {0, 2, 4});
    CHECK_NOTHROW(ops.attention_forward(gpu().compute(), s, none, no_out, no_lse));
    CHECK_NOTHROW(ops.attention_backward(gpu().compute(), s, no_out, none, no_out, no_lse, none));
}

}  // namespace trireme::test
