#include "core/cpu/amx_tile.h"

#include "core/error.h"

#if defined(__x86_64__)

// GCC 12 warns of its own intrinsics' deliberately undefined operands.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

// Compiled for processors with AMX whatever the rest is compiled for: callers ask first.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")

namespace trireme {

namespace {

// Palette 1: eight tiles of 16 rows of 64 bytes. Intel SDM, LDTILECFG.
struct alignas(64) TileConfiguration {
    constexpr TileConfiguration() {
        for (int i = 0; i < 8; ++i) {
            row_bytes[i] = 64;
            rows[i] = kTileRows;
        }
    }
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};
constinit const TileConfiguration kConfiguration;

// The configuration is in static memory because GCC 12's _tile_loadconfig tells the compiler of
// eight of its 64 bytes only.
void configure_tiles() { _tile_loadconfig(&kConfiguration); }

void release_tiles() { _tile_release(); }

struct Tile {
    __m512i rows[kTileRows];
};

__mmask32 first_lanes(int64_t count) {
    if (count <= 0) return 0;
    return count >= kTileDepth ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
}

// 16 rows in memory, 32 elements of each.
inline void load_rows(const uint16_t* from, int64_t row_elements, int64_t rows, __mmask32 lanes,
                      Tile& tile) {
    for (int64_t r = 0; r < kTileRows; ++r) {
        tile.rows[r] = r < rows ? _mm512_maskz_loadu_epi16(lanes, from + r * row_elements)
                                : _mm512_setzero_si512();
    }
}

// 32 rows in memory, 32 elements of each, as pairs of neighbouring rows: element j of rows 2r and
// 2r + 1 becomes the 32-bit element j of row r. The first 16 pairs of a row go to `low`.
inline void load_pairs(const uint16_t* from, int64_t row_elements, int64_t rows, __mmask32 lanes,
                       Tile& low, Tile& high) {
    alignas(64) static constexpr uint16_t kLow[32] = {
        0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
        8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i low_index = _mm512_load_si512(kLow);
    const __m512i high_index = _mm512_add_epi16(low_index, _mm512_set1_epi16(16));
    for (int64_t r = 0; r < kTileRows; ++r) {
        const uint16_t* row = from + 2 * r * row_elements;
        const __m512i even = 2 * r < rows ? _mm512_maskz_loadu_epi16(lanes, row)
                                          : _mm512_setzero_si512();
        const __m512i odd = 2 * r + 1 < rows ? _mm512_maskz_loadu_epi16(lanes, row + row_elements)
                                             : _mm512_setzero_si512();
        low.rows[r] = _mm512_permutex2var_epi16(even, low_index, odd);
        high.rows[r] = _mm512_permutex2var_epi16(even, high_index, odd);
    }
}

// Transposes the tile as 16 x 16 elements of 32 bits: in 2 x 2, then 4 x 4 elements inside each
// 128-bit lane, then the lanes themselves.
inline void transpose(Tile& tile) {
    __m512i pairs[16];
    __m512i fours[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(tile.rows[i], tile.rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(tile.rows[i], tile.rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    // Lane l of fours[4 g + c] is column 4 l + c of rows 4 g to 4 g + 3.
    for (int c = 0; c < 4; ++c) {
        const __m512i g01_even = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0x88);
        const __m512i g01_odd = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0xdd);
        const __m512i g23_even = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0x88);
        const __m512i g23_odd = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0xdd);
        tile.rows[c] = _mm512_shuffle_i32x4(g01_even, g23_even, 0x88);
        tile.rows[4 + c] = _mm512_shuffle_i32x4(g01_odd, g23_odd, 0x88);
        tile.rows[8 + c] = _mm512_shuffle_i32x4(g01_even, g23_even, 0xdd);
        tile.rows[12 + c] = _mm512_shuffle_i32x4(g01_odd, g23_odd, 0xdd);
    }
}

inline void store(const Tile& tile, uint16_t* to) {
    for (int64_t r = 0; r < kTileRows; ++r) _mm512_store_si512(to + r * kTileDepth, tile.rows[r]);
}

// A tile of a has m down and k across, a tile of b pairs of k down and n across: so what is a's
// plain tile must be transposed for b, and the other way round.
template <bool kTranspose>
void pack_rows(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
               uint16_t* to) {
    for (int64_t k = k_begin; k < k_end; k += kTileDepth) {
        for (int64_t half = 0; half < 2; ++half) {
            const int64_t row = first + half * kTileRows;
            Tile tile;
            load_rows(source.data + row * source.row_elements + k, source.row_elements,
                      source.width - row, first_lanes(k_end - k), tile);
            if (kTranspose) transpose(tile);
            store(tile, to);
            to += kTileElements;
        }
    }
}

template <bool kTranspose>
void pack_columns(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
                  uint16_t* to) {
    const __mmask32 lanes = first_lanes(source.width - first);
    for (int64_t k = k_begin; k < k_end; k += kTileDepth) {
        Tile low;
        Tile high;
        load_pairs(source.data + k * source.row_elements + first, source.row_elements, k_end - k,
                   lanes, low, high);
        if (kTranspose) transpose(low);
        if (kTranspose) transpose(high);
        store(low, to);
        store(high, to + kTileElements);
        to += 2 * kTileElements;
    }
}

}  // namespace

void pack_a_panel(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
                  uint16_t* to) {
    if (source.k_is_row) {
        pack_columns<true>(source, first, k_begin, k_end, to);
    } else {
        pack_rows<false>(source, first, k_begin, k_end, to);
    }
}

void pack_b_panel(const PanelSource& source, int64_t first, int64_t k_begin, int64_t k_end,
                  uint16_t* to) {
    if (source.k_is_row) {
        pack_columns<false>(source, first, k_begin, k_end, to);
    } else {
        pack_rows<true>(source, first, k_begin, k_end, to);
    }
}

// Rounds to nearest even, and denormals to zero as the tile instructions do.
void pack_a_panel(const float* rows, int64_t row_elements, int64_t steps, uint16_t* to) {
    for (int64_t step = 0; step < steps; ++step) {
        const float* row = rows + step * kTileDepth;
        for (int64_t r = 0; r < kPanelWidth; ++r) {
            const __m512 low = _mm512_loadu_ps(row);
            const __m512 high = _mm512_loadu_ps(row + kTileDepth / 2);
            const __m512i pair = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(to, pair);
            row += row_elements;
            to += kTileDepth;
        }
    }
}

void multiply_panels(const uint16_t* a, const uint16_t* b, int64_t steps, float* c, int64_t c_row,
                     bool add) {
    constexpr int kRowBytes = 64;
    const int64_t c_stride = c_row * static_cast<int64_t>(sizeof(float));
    float* c_below = c + kTileRows * c_row;
    // GCC 12's _tile_loadd does not tell the compiler that it reads memory.
    __asm__ volatile("" ::: "memory");
    if (add) {
        _tile_loadd(0, c, c_stride);
        _tile_loadd(1, c + kTileRows, c_stride);
        _tile_loadd(2, c_below, c_stride);
        _tile_loadd(3, c_below + kTileRows, c_stride);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t step = 0; step < steps; ++step) {
        _tile_loadd(4, a, kRowBytes);
        _tile_loadd(6, b, kRowBytes);
        _tile_loadd(7, b + kTileElements, kRowBytes);
        _tile_loadd(5, a + kTileElements, kRowBytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        a += 2 * kTileElements;
        b += 2 * kTileElements;
    }
    _tile_stored(0, c, c_stride);
    _tile_stored(1, c + kTileRows, c_stride);
    _tile_stored(2, c_below, c_stride);
    _tile_stored(3, c_below + kTileRows, c_stride);
}

TileScope::TileScope() { configure_tiles(); }

TileScope::~TileScope() { release_tiles(); }

}  // namespace trireme

#pragma GCC pop_options

#else

namespace trireme {

namespace {
[[noreturn]] void fail() { throw InternalError("AMX was asked for on a processor without it"); }
}  // namespace

void pack_a_panel(const PanelSource&, int64_t, int64_t, int64_t, uint16_t*) { fail(); }
void pack_b_panel(const PanelSource&, int64_t, int64_t, int64_t, uint16_t*) { fail(); }
void pack_a_panel(const float*, int64_t, int64_t, uint16_t*) { fail(); }
void multiply_panels(const uint16_t*, const uint16_t*, int64_t, float*, int64_t, bool) { fail(); }
TileScope::TileScope() { fail(); }
TileScope::~TileScope() = default;

}  // namespace trireme

#endif
