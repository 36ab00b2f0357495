#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cpu/amx_tile.h"
#include "core/cpu/attention_layout.h"
#include "core/ops.h"

// Attention of bf16 tensors with the products of blocks by AMX. All between the products is f32;
// probabilities and gradients of scores are rounded to bf16 where they enter a product.
namespace trireme::attention {

struct AmxCall {
    const AttentionShape& shape;
    int threads;
    float* scratch;  // one piece a thread, `scratch_stride` apart
    int64_t scratch_stride;
};

// Scratch memory of one thread, in floats.
int64_t amx_forward_scratch(const AttentionShape& shape);
int64_t amx_backward_scratch(const AttentionShape& shape);

void amx_forward(const AmxCall& call, const bf16* qkv, bf16* out, float* lse);
void amx_backward(const AmxCall& call, const bf16* dout, const bf16* qkv, const bf16* out,
                  const float* lse, bf16* dqkv);

static_assert(kQueries == 2 * kPanelWidth && kKeys == 2 * kPanelWidth, "blocks of two panels");
static_assert(kPanelWidth == kTileDepth, "the depth in whole panels is in whole steps too");

// Elements of a panel that is multiplied along the keys or the queries of a block, and of one step
// of any panel.
inline constexpr int64_t kBlockPanel = kQueries * kPanelWidth;
inline constexpr int64_t kStepElements = kPanelWidth * kTileDepth;

// Also the steps of n elements.
constexpr int64_t panels_of(int64_t n) {
    return (n + kPanelWidth - 1) / kPanelWidth;
}

// Sizes with rows in whole panels. A block of 64 rows of a head has 64 * padded elements packed,
// in either direction; a panel that is multiplied along the depth has kPanelWidth * padded.
inline Sizes amx_sizes(const AttentionShape& shape) {
    return Sizes(shape, kPanelWidth);
}

// bf16 elements out of scratch memory that is cut in floats.
inline uint16_t* take_bf16(Cutter& cut, int64_t elements) {
    return reinterpret_cast<uint16_t*>(cut.take(elements / 2));
}

// One head's rows in qkv, out or their gradients.
struct HeadRows {
    const bf16* first;
    int64_t stride;
    const uint16_t* data() const { return reinterpret_cast<const uint16_t*>(first); }
};

// `count` rows from `begin` as op(a), multiplied along the depth.
inline void pack_rows_as_a(const Sizes& s, const HeadRows& rows, int64_t begin, int64_t count,
                           uint16_t* to) {
    const PanelSource source{rows.data(), rows.stride, s.length, false};
    for (int64_t i = 0; i < count; i += kPanelWidth) {
        pack_a_panel(source, begin + i, 0, s.depth, to + i * s.padded);
    }
}

// All rows as the columns of op(b), multiplied along the depth.
inline void pack_rows_as_b(const Sizes& s, const HeadRows& rows, uint16_t* to) {
    const PanelSource source{rows.data(), rows.stride, s.length, false};
    for (int64_t i = 0; i < s.length; i += kPanelWidth) {
        pack_b_panel(source, i, 0, s.depth, to + i * s.padded);
    }
}

// All rows as the rows of op(b), block by block, multiplied along the rows.
inline void pack_blocks_as_b(const Sizes& s, const HeadRows& rows, uint16_t* to) {
    const PanelSource source{rows.data(), rows.stride, s.depth, true};
    for (int64_t begin = 0; begin < s.length; begin += kKeys) {
        const int64_t end = std::min<int64_t>(s.length, begin + kKeys);
        for (int64_t d = 0; d < s.padded; d += kPanelWidth) {
            pack_b_panel(source, d, begin, end, to);
            to += kBlockPanel;
        }
    }
}

// A block of probabilities, or of gradients of scores, as op(a), multiplied along the keys.
inline void pack_block(const float* rows, const Block& block, uint16_t* to) {
    for (int64_t i = 0; i < panels_of(block.queries); ++i) {
        pack_a_panel(rows + i * kPanelWidth * kKeys, kKeys, panels_of(block.keys),
                     to + i * kBlockPanel);
    }
}

// Panels one after the other, from which a product takes its rows of a or columns of b.
struct Panels {
    const uint16_t* first;
    int64_t stride;  // elements
    int64_t count;
};

// c, rows `c_row` floats apart, = or += a b over `steps` of kTileDepth.
inline void multiply(const Panels& a, const Panels& b, int64_t steps, float* c, int64_t c_row,
                     bool add) {
    for (int64_t i = 0; i < a.count; ++i) {
        for (int64_t j = 0; j < b.count; ++j) {
            multiply_panels(a.first + i * a.stride, b.first + j * b.stride, steps,
                            c + i * kPanelWidth * c_row + j * kPanelWidth, c_row, add);
        }
    }
}

}  // namespace trireme::attention
