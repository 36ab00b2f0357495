#pragma once

#include <cstdint>

namespace trireme {

// The pieces of the AMX kernel that are written in the processor's own instructions. A tile is
// 16 rows of 64 bytes. Operand tiles hold 16 x 32 elements of a, or 32 x 16 of b with two
// neighbours in k side by side; a panel is two tiles wide in m or n, and stores for each step of
// 32 in k its two tiles one after the other. Values beyond a matrix's edge are zeros.
inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileDepth = 32;              // in k
inline constexpr int64_t kPanelWidth = 2 * kTileRows;  // in m or n
inline constexpr int64_t kTileElements = kTileRows * kTileDepth;

// Rows `first` to first + kPanelWidth of op(a), or columns of op(b), over k_begin to k_end.
struct PanelSource {
    const uint16_t* data;  // the matrix, bf16
    int64_t row_elements;  // of its rows in memory
    int64_t width;         // of the whole matrix in m or n
    bool k_is_row;         // whether k counts the rows in memory, else the columns
};

void pack_a_panel(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
                  uint16_t* to);
void pack_b_panel(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
                  uint16_t* to);

// kPanelWidth rows of `steps` * kTileDepth f32, `row_elements` apart, as a panel of a.
void pack_a_panel(const float* rows, int64_t row_elements, int64_t steps, uint16_t* to);

// c (kPanelWidth square, rows `c_row` floats apart) = or += the product of `steps` tile pairs.
void multiply_panels(const uint16_t* a, const uint16_t* b, int64_t steps, float* c, int64_t c_row,
                     bool add);

// Sets this thread's tiles up for the calls above, and gives them back at the end.
class TileScope {
public:
    TileScope();
    ~TileScope();
    TileScope(const TileScope&) = delete;
    TileScope& operator=(const TileScope&) = delete;
};

}  // namespace trireme
