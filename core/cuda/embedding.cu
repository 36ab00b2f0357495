#include <bit>

#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/cuda/sort.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

constexpr int kColumnThreads = 128;  // of a block whose threads stand side by side along a row
constexpr int kPieceTokens = 32;     // of the sorted order, summed by one block
constexpr int kWarps = kBlockThreads / kWarp;

// A warp for each row.
Grid warp_grid(int64_t rows) {
    return {dim3(static_cast<unsigned>(divide_up(rows, kWarps))), dim3(kBlockThreads)};
}

// Blocks of kColumnThreads threads: x over `count` pieces or rows, y over the columns.
Grid column_grid(int64_t count, int64_t cols, int pack) {
    return {dim3(static_cast<unsigned>(count),
                 static_cast<unsigned>(divide_up(cols, int64_t{kColumnThreads} * pack))),
            dim3(kColumnThreads)};
}

__device__ int64_t row_of_warp() {
    return grid_first() / kWarp;
}
__device__ int64_t first_column_of_lane(int pack) {
    return static_cast<int64_t>(threadIdx.x % kWarp) * pack;
}
// In a column_grid.
__device__ int64_t first_column_of_thread(int pack) {
    return (static_cast<int64_t>(blockIdx.y) * kColumnThreads + threadIdx.x) * pack;
}

template <int n>
__device__ void add_to(Floats<n>& sum, const Floats<n>& addend) {
#pragma unroll
    for (int k = 0; k < n; ++k) sum[k] += addend[k];
}

template <int n>
__device__ void add_to_memory(float* to, const Floats<n>& addend) {
    Floats<n> sum = load_floats<n>(to);
    add_to<n>(sum, addend);
    store_whole<n>(to, sum);
}

template <typename T, int n>
__global__ void gather_rows_kernel(const int32_t* ids, const T* __restrict__ table,
                                   int64_t first_row, int64_t vocabulary, int64_t rows,
                                   int64_t cols, T* __restrict__ y) {
    const int64_t token = row_of_warp();
    if (token >= rows) return;
    const int64_t row = ids[token] - first_row;
    const bool is_here = row >= 0 && row < vocabulary;
#pragma unroll 4
    for (int64_t c = first_column_of_lane(n); c < cols; c += kWarp * n) {
        Pack<T, n> pack{};
        if (is_here) pack = *reinterpret_cast<const Pack<T, n>*>(table + row * cols + c);
        *reinterpret_cast<Pack<T, n>*>(y + token * cols + c) = pack;
    }
}

// Keys of the sort: rows of this rank's part, and `vocabulary` for ids of other ranks, which so
// come last.
__global__ void token_rows_kernel(const int32_t* ids, int64_t first_row, int64_t vocabulary,
                                  int64_t count, uint32_t* rows, int32_t* tokens) {
    for (int64_t i = grid_first(); i < count; i += grid_stride()) {
        const int64_t row = ids[i] - first_row;
        const bool is_here = row >= 0 && row < vocabulary;
        rows[i] = static_cast<uint32_t>(is_here ? row : vocabulary);
        tokens[i] = static_cast<int32_t>(i);
    }
}

// The same where the rows are positions, counted from the documents' beginnings.
__global__ void position_rows_kernel(const int32_t* document_begin, int64_t first_token,
                                     int64_t sequence, int64_t count, uint32_t* rows,
                                     int32_t* tokens) {
    for (int64_t i = grid_first(); i < count; i += grid_stride()) {
        rows[i] = static_cast<uint32_t>((first_token + i) % sequence - document_begin[i]);
        tokens[i] = static_cast<int32_t>(i);
    }
}

// Sums the gradients of a piece of the sorted tokens, run by run of equal rows, in token order. The
// piece in which a run ends adds to the table; a run that goes on leaves its sum of this piece in
// partials [piece, cols].
template <typename T, int n>
__global__ void __launch_bounds__(kColumnThreads)
    sum_runs_kernel(const T* __restrict__ dy, const uint32_t* rows, const int32_t* tokens,
                    int64_t count, int64_t cols, uint32_t vocabulary, float* dtable,
                    float* partials) {
    __shared__ uint32_t piece_rows[kPieceTokens + 1];  // and the first of the next piece
    __shared__ int32_t piece_tokens[kPieceTokens];
    const int64_t first = static_cast<int64_t>(blockIdx.x) * kPieceTokens;
    const int at = static_cast<int>(threadIdx.x);
    if (at <= kPieceTokens) {
        piece_rows[at] = first + at < count ? rows[first + at] : vocabulary;
    }
    if (at < kPieceTokens) piece_tokens[at] = first + at < count ? tokens[first + at] : 0;
    __syncthreads();
    const int64_t col = first_column_of_thread(n);
    if (col >= cols) return;
    constexpr int kAhead = 4;  // rows read before the first of them is needed, if at all
    Floats<n> sum{};
    for (int i = 0; i < kPieceTokens && piece_rows[i] < vocabulary; i += kAhead) {
        Floats<n> gradients[kAhead];
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
            gradients[a] = load_floats<n>(dy + piece_tokens[i + a] * cols + col);
        }
#pragma unroll
        for (int a = 0; a < kAhead; ++a) {
            const uint32_t row = piece_rows[i + a];
            if (row >= vocabulary) break;
            add_to<n>(sum, gradients[a]);
            if (piece_rows[i + a + 1] != row) {
                add_to_memory<n>(dtable + row * cols + col, sum);
                sum = Floats<n>{};
            }
        }
    }
    const uint32_t last = piece_rows[kPieceTokens - 1];
    if (last < vocabulary && piece_rows[kPieceTokens] == last) {
        store_whole<n>(partials + blockIdx.x * cols + col, sum);
    }
}

// Adds the partial sums of each run that goes over the end of a piece, in order, to the table: the
// block of the piece in which the run begins.
template <int n>
__global__ void __launch_bounds__(kColumnThreads)
    add_partials_of_runs_kernel(const float* __restrict__ partials, const uint32_t* rows,
                                int64_t count, int64_t cols, uint32_t vocabulary, float* dtable) {
    const int64_t piece = blockIdx.x;
    const int64_t first = piece * kPieceTokens;
    const int64_t next = first + kPieceTokens;  // exists: the last piece has no block
    const uint32_t row = rows[next];
    if (row >= vocabulary || rows[next - 1] != row) return;
    if (first > 0 && rows[first - 1] == row) return;
    const int64_t col = first_column_of_thread(n);
    if (col >= cols) return;
    // The last piece that begins in the run; the run ends in it.
    int64_t end = piece + 1;
    int64_t beyond = (count + kPieceTokens - 1) / kPieceTokens;
    while (beyond - end > 1) {
        const int64_t middle = (end + beyond) / 2;
        (rows[middle * kPieceTokens] == row ? end : beyond) = middle;
    }
    Floats<n> sum{};
#pragma unroll 8
    for (int64_t p = piece; p < end; ++p) add_to<n>(sum, load_floats<n>(partials + p * cols + col));
    add_to_memory<n>(dtable + row * cols + col, sum);
}

template <typename T, int n>
__global__ void add_positions_kernel(const T* __restrict__ table, int64_t first_token,
                                     int64_t sequence, const int32_t* document_begin, int64_t rows,
                                     int64_t cols, T* __restrict__ y) {
    const int64_t token = row_of_warp();
    if (token >= rows) return;
    const int64_t begin = document_begin ? document_begin[token] : 0;
    const T* from = table + ((first_token + token) % sequence - begin) * cols;
    T* to = y + token * cols;
#pragma unroll 4
    for (int64_t c = first_column_of_lane(n); c < cols; c += kWarp * n) {
        Floats<n> sum = load_floats<n>(to + c);
        add_to<n>(sum, load_floats<n>(from + c));
        store_floats<n>(to + c, sum);
    }
}

// A position for each block, those of the first tokens first; its tokens stand `sequence` apart.
template <typename T, int n>
__global__ void __launch_bounds__(kColumnThreads)
    sum_positions_kernel(const T* __restrict__ dy, int64_t first_token, int64_t sequence,
                         int64_t rows, int64_t cols, float* dtable) {
    const int64_t col = first_column_of_thread(n);
    if (col >= cols) return;
    Floats<n> sum{};
#pragma unroll 4
    for (int64_t token = blockIdx.x; token < rows; token += sequence) {
        add_to<n>(sum, load_floats<n>(dy + token * cols + col));
    }
    const int64_t position = (first_token + blockIdx.x) % sequence;
    add_to_memory<n>(dtable + position * cols + col, sum);
}

// dtable[row of token] += dy[token], in an order that depends on the rows alone.
// write_rows(rows, tokens) launches the kernel that makes the keys of the sort.
template <typename WriteRows>
void sum_by_row(cudaStream_t handle, Scratch& scratch, const Tensor& dy, const Tensor& dtable,
                const WriteRows& write_rows) {
    const int64_t count = dy.rows();
    const int64_t cols = dy.cols();
    const int64_t vocabulary = dtable.rows();
    TRIREME_CHECK(count <= INT32_MAX && vocabulary <= INT32_MAX,
                  "tokens and rows that 32 bits can count");
    if (count == 0 || vocabulary == 0) return;
    const int key_bits = std::bit_width(static_cast<uint64_t>(vocabulary));
    const int64_t pieces = divide_up(count, kPieceTokens);

    const size_t sort_bytes = sort_scratch_bytes(count, key_bits);
    size_t bytes = 0;
    const auto place = [&bytes](size_t part) {
        const size_t offset = bytes;
        bytes += (part + 255) / 256 * 256;
        return offset;
    };
    const size_t count_bytes = static_cast<size_t>(count) * 4;
    const size_t rows_at = place(count_bytes), sorted_rows_at = place(count_bytes);
    const size_t tokens_at = place(count_bytes), sorted_tokens_at = place(count_bytes);
    const size_t sort_at = place(sort_bytes);
    const size_t partials_at = place(static_cast<size_t>((pieces - 1) * cols) * 4);
    char* memory = static_cast<char*>(scratch.reserve(bytes));
    auto* rows = reinterpret_cast<uint32_t*>(memory + rows_at);
    auto* sorted_rows = reinterpret_cast<uint32_t*>(memory + sorted_rows_at);
    auto* tokens = reinterpret_cast<int32_t*>(memory + tokens_at);
    auto* sorted_tokens = reinterpret_cast<int32_t*>(memory + sorted_tokens_at);
    auto* partials = reinterpret_cast<float*>(memory + partials_at);

    write_rows(rows, tokens);
    sort_pairs(handle, rows, sorted_rows, tokens, sorted_tokens, count, key_bits, memory + sort_at,
               sort_bytes);
    with_packs(dy.dtype, cols, {dy.data, dtable.data}, [&]<typename T, int n>() {
        launch(sum_runs_kernel<T, n>, column_grid(pieces, cols, n), handle, dy.as<T>(), sorted_rows,
               sorted_tokens, count, cols, static_cast<uint32_t>(vocabulary), dtable.as<float>(),
               partials);
    });
    const auto add_partials = [&]<int n>() {
        launch(add_partials_of_runs_kernel<n>, column_grid(pieces - 1, cols, n), handle, partials,
               sorted_rows, count, cols, static_cast<uint32_t>(vocabulary), dtable.as<float>());
    };
    if (allows_packs<float>(cols, {dtable.data})) {
        add_partials.template operator()<kPackElements<float>>();
    } else {
        add_partials.template operator()<1>();
    }
}

}  // namespace

void CudaOps::embedding_forward(Stream& stream, const Tensor& ids, const Tensor& table,
                                int64_t first_row, const Tensor& y) {
    check_embedding_forward(ids, table, y);
    with_packs(y.dtype, y.cols(), {table.data, y.data}, [&]<typename T, int n>() {
        launch(gather_rows_kernel<T, n>, warp_grid(y.rows()), handle_of(stream), ids.as<int32_t>(),
               table.as<T>(), first_row, table.rows(), y.rows(), y.cols(), y.as<T>());
    });
}

void CudaOps::embedding_backward(Stream& stream, const Tensor& dy, const Tensor& ids,
                                 int64_t first_row, const Tensor& dtable) {
    check_embedding_backward(dy, ids, dtable);
    const int64_t count = dy.rows();
    const cudaStream_t handle = handle_of(stream);
    sum_by_row(handle, scratch_, dy, dtable, [&](uint32_t* rows, int32_t* tokens) {
        launch(token_rows_kernel, element_grid(count), handle, ids.as<int32_t>(), first_row,
               dtable.rows(), count, rows, tokens);
    });
}

void CudaOps::position_forward(Stream& stream, const Tensor& table, int64_t first_token,
                               int64_t sequence, const Tensor& document_begin, const Tensor& y) {
    check_position_forward(table, first_token, sequence, document_begin, y);
    with_packs(y.dtype, y.cols(), {table.data, y.data}, [&]<typename T, int n>() {
        launch(add_positions_kernel<T, n>, warp_grid(y.rows()), handle_of(stream), table.as<T>(),
               first_token, sequence, document_begin ? document_begin.as<int32_t>() : nullptr,
               y.rows(), y.cols(), y.as<T>());
    });
}

void CudaOps::position_backward(Stream& stream, const Tensor& dy, int64_t first_token,
                                int64_t sequence, const Tensor& document_begin,
                                const Tensor& dtable) {
    check_position_backward(dy, first_token, sequence, document_begin, dtable);
    if (document_begin) {
        const cudaStream_t handle = handle_of(stream);
        sum_by_row(handle, scratch_, dy, dtable, [&](uint32_t* rows, int32_t* tokens) {
            launch(position_rows_kernel, element_grid(dy.rows()), handle,
                   document_begin.as<int32_t>(), first_token, sequence, dy.rows(), rows, tokens);
        });
        return;
    }
    with_packs(dy.dtype, dy.cols(), {dy.data, dtable.data}, [&]<typename T, int n>() {
        launch(sum_positions_kernel<T, n>, column_grid(std::min(sequence, dy.rows()), dy.cols(), n),
               handle_of(stream), dy.as<T>(), first_token, sequence, dy.rows(), dy.cols(),
               dtable.as<float>());
    });
}

}  // namespace trireme
