#include <cstring>

#include "core/cpu/cpu_ops.h"
#include "core/cpu/kernel_support.h"
#include "core/head_parts_checks.h"

namespace trireme {

namespace {

// Heads that stand side by side in a part's row as in the whole row.
struct HeadRun {
    int first;  // in the part's row
    int count;
};

// sum = the sum of `addends` heads that are `stride` elements apart.
template <typename T>
void sum_heads(const T* first, int64_t stride, int addends, int64_t head_dim, T* sum) {
#pragma omp simd
    for (int64_t i = 0; i < head_dim; ++i) {
        float total = load(first, i);
        for (int k = 1; k < addends; ++k) total += load(first + k * stride, i);
        store(sum, i, total);
    }
}

}  // namespace

void CpuOps::split_heads(Stream&, const HeadParts& s, const Tensor& rows, const Tensor& parts) {
    check_head_parts(s, rows, parts);
    const int64_t count = rows.rows();
    const HeadRun runs[] = {{0, s.part_heads()},
                            {s.part_heads(), s.part_kv_heads()},
                            {s.part_heads() + s.part_kv_heads(), s.part_kv_heads()}};
    with_activation_type(rows.dtype, [&]<typename T>() {
        const T* in = rows.as<T>();
        T* out = parts.as<T>();
        parallel_ranges(threads_, count, row_grain(s.width()), [&](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; ++n) {
                const T* from = in + n * s.width();
                for (int part = 0; part < s.parts; ++part) {
                    T* to = out + (part * count + n) * s.part_width();
                    for (const HeadRun& run : runs) {
                        const int64_t first = s.head_of_row(part, run.first);
                        std::memcpy(to + int64_t{run.first} * s.head_dim, from + first * s.head_dim,
                                    sizeof(T) * static_cast<size_t>(run.count * s.head_dim));
                    }
                }
            }
        });
    });
}

void CpuOps::join_heads(Stream&, const HeadParts& s, const Tensor& parts, const Tensor& rows) {
    check_head_parts(s, rows, parts);
    const int64_t count = rows.rows();
    const int64_t part_stride = count * s.part_width();
    // Of heads that several parts have, none is copied.
    const int copied_kv_heads = s.kv_sharers() == 1 ? s.part_kv_heads() : 0;
    const int first_summed = s.kv_sharers() == 1 ? s.heads + 2 * s.kv_heads : s.heads;
    const HeadRun runs[] = {{0, s.part_heads()},
                            {s.part_heads(), copied_kv_heads},
                            {s.part_heads() + s.part_kv_heads(), copied_kv_heads}};
    with_activation_type(rows.dtype, [&]<typename T>() {
        const T* in = parts.as<T>();
        T* out = rows.as<T>();
        parallel_ranges(threads_, count, row_grain(s.width()), [&](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; ++n) {
                const T* from = in + n * s.part_width();
                T* to = out + n * s.width();
                for (int part = 0; part < s.parts; ++part) {
                    for (const HeadRun& run : runs) {
                        const int64_t first = s.head_of_row(part, run.first);
                        std::memcpy(to + first * s.head_dim,
                                    from + part * part_stride + int64_t{run.first} * s.head_dim,
                                    sizeof(T) * static_cast<size_t>(run.count * s.head_dim));
                    }
                }
                for (int head = first_summed; head < s.heads + 2 * s.kv_heads; ++head) {
                    const HeadParts::Place place = s.place_of(head);
                    sum_heads(from + place.part * part_stride + int64_t{place.head} * s.head_dim,
                              part_stride, place.sharers, s.head_dim,
                              to + int64_t{head} * s.head_dim);
                }
            }
        });
    });
}

}  // namespace trireme
