#include "core/cpu/amx_matmul.h"

#include <algorithm>

#include "core/cpu/amx_tile.h"
#include "core/cpu/kernel_support.h"
#include "core/cpu/parallel_for.h"

namespace trireme {

namespace {

// Of a core's second-level cache, b's block takes half a MiB to a MiB; what is packed of a fits
// the first level in steps of kStepsInCache.
constexpr int64_t kMostDepth = 1024;             // in k, of one pass
constexpr int64_t kMostElements = 512 * 1024;    // of b's block
constexpr int64_t kStepsInCache = 16;
constexpr int64_t kLeastBlock = 2 * kPanelWidth;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t unit) { return ceil_div(a, unit) * unit; }

// How c is dealt out: each task makes one block, packs its part of b once, and goes down its rows
// in panels.
struct Grid {
    int64_t depth;          // of a pass, in k
    int64_t row_blocks, column_blocks;
    int64_t block_rows, block_columns;

    Grid(const MatmulCall& call, int threads)
        : depth(round_up(ceil_div(call.k, ceil_div(call.k, kMostDepth)), kTileDepth)),
          row_blocks(1) {
        const int64_t widest = kMostElements / depth / kPanelWidth * kPanelWidth;
        column_blocks = ceil_div(call.n, widest);
        // Twice as many tasks as threads, so that a slow one does not make the others wait.
        while (threads > 1 && row_blocks * column_blocks < 2 * threads) {
            const int64_t rows = ceil_div(call.m, row_blocks);
            const int64_t columns = ceil_div(call.n, column_blocks);
            if (std::max(rows, columns) < 2 * kLeastBlock) break;
            (columns > rows ? column_blocks : row_blocks)++;
        }
        block_rows = round_up(ceil_div(call.m, row_blocks), kPanelWidth);
        block_columns = round_up(ceil_div(call.n, column_blocks), kPanelWidth);
    }
};

// What becomes of a finished row of sums.
struct Finish {
    bool add;           // to c
    const float* bias;  // or null
};

template <typename T>
void finish_row(const Finish& finish, const float* sums, int64_t count, const float* bias, T* c) {
    if (finish.add) {
#pragma omp simd
        for (int64_t j = 0; j < count; ++j) store(c, j, load(c, j) + sums[j]);
    } else if (bias) {
#pragma omp simd
        for (int64_t j = 0; j < count; ++j) store(c, j, sums[j] + bias[j]);
    } else {
#pragma omp simd
        for (int64_t j = 0; j < count; ++j) store(c, j, sums[j]);
    }
}

// A thread's scratch memory: b's block, a panel of a, and the sums of a panel's rows.
struct Workspace {
    Workspace(const Grid& grid, uint16_t* memory)
        : b(memory), a(b + grid.depth * grid.block_columns),
          sums(reinterpret_cast<float*>(a + grid.depth * kPanelWidth)) {}
    static int64_t elements(const Grid& grid) {
        return grid.depth * (grid.block_columns + kPanelWidth) +
               2 * kPanelWidth * grid.block_columns;
    }
    uint16_t* b;
    uint16_t* a;
    float* sums;
};

template <typename T>
void multiply_block(const MatmulCall& call, const Grid& grid, const Finish& finish, int64_t k_begin,
                    int64_t row_block, int64_t column_block, const Workspace& w) {
    const int64_t k_end = std::min(call.k, k_begin + grid.depth);
    const int64_t steps = ceil_div(k_end - k_begin, kTileDepth);
    const int64_t first_column = column_block * grid.block_columns;
    const int64_t columns = std::min(grid.block_columns, call.n - first_column);
    const int64_t first_row = row_block * grid.block_rows;
    const int64_t end_row = std::min(call.m, first_row + grid.block_rows);
    if (columns <= 0 || first_row >= end_row) return;
    const auto source = [](const Tensor& t, int64_t k, int64_t width, bool k_is_row) {
        const auto* data = static_cast<const uint16_t*>(t.data);
        return PanelSource{data, k_is_row ? width : k, width, k_is_row};
    };
    const PanelSource a = source(call.a, call.k, call.m, call.a_transposed);
    const PanelSource b = source(call.b, call.k, call.n, !call.b_transposed);
    const int64_t panel = steps * 2 * kTileElements;

    const TileScope tiles;
    for (int64_t j = 0; j * kPanelWidth < columns; ++j) {
        pack_b_panel(b, first_column + j * kPanelWidth, k_begin, k_end, w.b + j * panel);
    }
    for (int64_t row = first_row; row < end_row; row += kPanelWidth) {
        pack_a_panel(a, row, k_begin, k_end, w.a);
        for (int64_t step = 0; step < steps; step += kStepsInCache) {
            const int64_t offset = step * 2 * kTileElements;
            for (int64_t j = 0; j * kPanelWidth < columns; ++j) {
                multiply_panels(w.a + offset, w.b + j * panel + offset,
                                std::min(kStepsInCache, steps - step), w.sums + j * kPanelWidth,
                                grid.block_columns, step > 0);
            }
        }
        T* c = static_cast<T*>(call.c.data) + row * call.n + first_column;
        const float* bias = finish.bias ? finish.bias + first_column : nullptr;
        const int64_t rows = std::min(kPanelWidth, end_row - row);
        for (int64_t i = 0; i < rows; ++i) {
            finish_row(finish, w.sums + i * grid.block_columns, columns, bias, c + i * call.n);
        }
    }
}

}  // namespace

AmxMatmul::AmxMatmul(int threads) : threads_(std::max(threads, 1)) {}

bool AmxMatmul::in_one_pass(int64_t k) { return k <= kMostDepth; }

void AmxMatmul::multiply(const MatmulCall& call) {
    TRIREME_CHECK(call.a.dtype == DType::bf16 && call.b.dtype == DType::bf16 &&
                      (!call.bias || call.bias.dtype == DType::f32) &&
                      (call.c.dtype == DType::f32 || in_one_pass(call.k)),
                  "types that the AMX matmul takes");
    const Grid grid(call, threads_);
    constexpr int64_t kPage = 2048;  // elements
    const int64_t stride = round_up(Workspace::elements(grid), kPage);
    const int64_t needed = stride * threads_ + kPage;
    if (static_cast<int64_t>(scratch_.size()) < needed) {
        scratch_.assign(static_cast<size_t>(needed), 0);
    }
    const auto address = reinterpret_cast<uintptr_t>(scratch_.data()) / sizeof(uint16_t);
    uint16_t* aligned = scratch_.data() + (kPage - address % kPage) % kPage;

    for (int64_t k = 0; k < call.k; k += grid.depth) {
        const Finish finish{call.accumulate || k > 0,
                            call.bias ? call.bias.as<float>() : nullptr};
        parallel_tasks(threads_, grid.row_blocks * grid.column_blocks,
                       [&](int64_t task, int thread) {
            const Workspace w(grid, aligned + thread * stride);
            const int64_t row_block = task % grid.row_blocks;
            const int64_t column_block = task / grid.row_blocks;
            if (call.c.dtype == DType::f32) {
                multiply_block<float>(call, grid, finish, k, row_block, column_block, w);
            } else {
                multiply_block<bf16>(call, grid, finish, k, row_block, column_block, w);
            }
        });
    }
}

}  // namespace trireme
