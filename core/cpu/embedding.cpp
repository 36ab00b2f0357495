#include <cstring>

#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/ops_checks.h"

namespace trireme {

namespace {

template <typename T>
void add_to_row(const T* x, float* sum, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) sum[i] += load(x, i);
}

template <typename T>
void add_to_activations(const T* x, T* y, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y, i, load(y, i) + load(x, i));
}

// sums[row_of(n)] += rows[n] for all n in order; a negative row_of(n) is skipped. Threads own
// columns (whole cache lines of them), so that no two write to one place and the order of the
// additions is always the same.
template <typename T, typename RowOf>
void scatter_add(int threads, const T* rows, int64_t count, int64_t cols, float* sums,
                 const RowOf& row_of) {
    constexpr int64_t kLine = 16;
    const int64_t lines = (cols + kLine - 1) / kLine;
    parallel_ranges(threads, lines, row_grain(count * kLine), [=](int64_t begin, int64_t end) {
        const int64_t first = begin * kLine;
        const int64_t width = std::min(end * kLine, cols) - first;
        for (int64_t n = 0; n < count; ++n) {
            const int64_t row = row_of(n);
            if (row >= 0) add_to_row(rows + n * cols + first, sums + row * cols + first, width);
        }
    });
}

// Calls body with what gives token n's position.
template <typename Body>
void with_positions(int64_t first_token, int64_t sequence, const Tensor& document_begin,
                    const Body& body) {
    if (document_begin) {
        const int32_t* begin = document_begin.as<int32_t>();
        body([=](int64_t n) { return (first_token + n) % sequence - begin[n]; });
    } else {
        body([=](int64_t n) { return (first_token + n) % sequence; });
    }
}

}  // namespace

void CpuOps::embedding_forward(Stream&, const Tensor& ids, const Tensor& table, int64_t first_row,
                               const Tensor& y) {
    check_embedding_forward(ids, table, y);
    const int64_t cols = y.cols();
    const int64_t vocabulary = table.rows();
    const size_t row_bytes = static_cast<size_t>(cols) * size_of(y.dtype);
    const int32_t* id = ids.as<int32_t>();
    const char* from = static_cast<const char*>(table.data);
    char* to = static_cast<char*>(y.data);
    parallel_ranges(threads_, y.rows(), row_grain(cols), [=](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
            const int64_t row = id[n] - first_row;
            char* out = to + static_cast<size_t>(n) * row_bytes;
            if (row >= 0 && row < vocabulary) {
                std::memcpy(out, from + static_cast<size_t>(row) * row_bytes, row_bytes);
            } else {
                std::memset(out, 0, row_bytes);
            }
        }
    });
}

void CpuOps::embedding_backward(Stream&, const Tensor& dy, const Tensor& ids, int64_t first_row,
                                const Tensor& dtable) {
    check_embedding_backward(dy, ids, dtable);
    const int32_t* id = ids.as<int32_t>();
    const int64_t vocabulary = dtable.rows();
    with_activation_type(dy.dtype, [&]<typename T>() {
        scatter_add(threads_, dy.as<T>(), dy.rows(), dy.cols(), dtable.as<float>(), [=](int64_t n) {
            const int64_t row = id[n] - first_row;
            return row < vocabulary ? row : -1;
        });
    });
}

void CpuOps::position_forward(Stream&, const Tensor& table, int64_t first_token, int64_t sequence,
                              const Tensor& document_begin, const Tensor& y) {
    check_position_forward(table, first_token, sequence, document_begin, y);
    const int64_t cols = y.cols();
    with_activation_type(y.dtype, [&]<typename T>() {
        const T* from = table.as<T>();
        T* to = y.as<T>();
        with_positions(first_token, sequence, document_begin, [&](const auto& position) {
            parallel_ranges(threads_, y.rows(), row_grain(cols), [=](int64_t begin, int64_t end) {
                for (int64_t n = begin; n < end; ++n) {
                    add_to_activations(from + position(n) * cols, to + n * cols, cols);
                }
            });
        });
    });
}

void CpuOps::position_backward(Stream&, const Tensor& dy, int64_t first_token, int64_t sequence,
                               const Tensor& document_begin, const Tensor& dtable) {
    check_position_backward(dy, first_token, sequence, document_begin, dtable);
    with_activation_type(dy.dtype, [&]<typename T>() {
        with_positions(first_token, sequence, document_begin, [&](const auto& position) {
            scatter_add(threads_, dy.as<T>(), dy.rows(), dy.cols(), dtable.as<float>(), position);
        });
    });
}

}  // namespace trireme
