#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/device_code.h"
#include "core/head_parts_checks.h"

namespace trireme {

namespace {

template <typename T, int n>
__device__ void copy_pack(const T* from, T* to) {
    *reinterpret_cast<Pack<T, n>*>(to) = *reinterpret_cast<const Pack<T, n>*>(from);
}

// In a row_grid over the packs of the rows of all parts side by side: a thread finds the place of
// its pack in the whole row once, and then goes through the rows.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    split_heads_kernel(const T* __restrict__ rows, HeadParts s, int64_t count,
                       T* __restrict__ parts) {
    const int64_t width = s.width();
    const int part_width = static_cast<int>(s.part_width());
    const int col = static_cast<int>(pack_of_row()) * n;
    if (col >= s.parts * part_width) return;
    const int part = col / part_width;
    const int at = col % part_width;
    const T* from = rows + s.head_of_row(part, at / s.head_dim) * s.head_dim + at % s.head_dim;
    T* to = parts + part * count * part_width + at;
    for (int64_t row = first_row_of_thread(); row < count; row += row_stride()) {
        copy_pack<T, n>(from + row * width, to + row * part_width);
    }
}

// In a row_grid over the packs of the whole rows.
template <typename T, int n>
__global__ void __launch_bounds__(kBlockThreads)
    join_heads_kernel(const T* __restrict__ parts, HeadParts s, int64_t count,
                      T* __restrict__ rows) {
    const int64_t width = s.width();
    const int64_t part_width = s.part_width();
    const int col = static_cast<int>(pack_of_row()) * n;
    if (col >= width) return;
    const HeadParts::Place place = s.place_of(col / s.head_dim);
    const int64_t part_stride = count * part_width;
    const T* from = parts + place.part * part_stride + place.head * s.head_dim + col % s.head_dim;
    T* to = rows + col;
    if (place.sharers == 1) {
        for (int64_t row = first_row_of_thread(); row < count; row += row_stride()) {
            copy_pack<T, n>(from + row * part_width, to + row * width);
        }
        return;
    }
    for (int64_t row = first_row_of_thread(); row < count; row += row_stride()) {
        const T* addend = from + row * part_width;
        Floats<n> sum = load_floats<n>(addend);
#pragma unroll 2
        for (int part = 1; part < place.sharers; ++part) {
            addend += part_stride;
            const Floats<n> values = load_floats<n>(addend);
#pragma unroll
            for (int k = 0; k < n; ++k) sum[k] += values[k];
        }
        store_floats<n>(to + row * width, sum);
    }
}

}  // namespace

void CudaOps::split_heads(Stream& stream, const HeadParts& s, const Tensor& rows,
                          const Tensor& parts) {
    check_head_parts(s, rows, parts);
    const int64_t count = rows.rows();
    with_packs(rows.dtype, s.head_dim, {rows.data, parts.data}, [&]<typename T, int n>() {
        launch(split_heads_kernel<T, n>, row_grid(count, s.parts * s.part_width() / n),
               handle_of(stream), rows.as<T>(), s, count, parts.as<T>());
    });
}

void CudaOps::join_heads(Stream& stream, const HeadParts& s, const Tensor& parts,
                         const Tensor& rows) {
    check_head_parts(s, rows, parts);
    const int64_t count = rows.rows();
    with_packs(rows.dtype, s.head_dim, {rows.data, parts.data}, [&]<typename T, int n>() {
        launch(join_heads_kernel<T, n>, row_grid(count, s.width() / n), handle_of(stream),
               parts.as<T>(), s, count, rows.as<T>());
    });
}

}  // namespace trireme
