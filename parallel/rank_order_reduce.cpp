#include "parallel/rank_order_reduce.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace trireme {

namespace {

template <typename T>
T sum_of(T a, T b) {
    return a + b;
}

// The sum carries on a NaN, and of two zeros of different sign it is the positive one.
template <typename T>
T max_of(T a, T b) {
    if (a > b) return a;
    if (b > a) return b;
    return a == b && a != 0 ? a : a + b;
}

// A block at a time, so that the running result stays in the nearest cache.
template <typename Stored, typename Sum, Sum combine(Sum, Sum)>
void reduce(const void* const* sources, int n_sources, int64_t elements, void* output) {
    constexpr int64_t kBlock = 1024;
    std::array<Sum, kBlock> result;
    Stored* out = static_cast<Stored*>(output);
    for (int64_t begin = 0; begin < elements; begin += kBlock) {
        const int64_t count = std::min(kBlock, elements - begin);
        const Stored* first = static_cast<const Stored*>(sources[0]) + begin;
        for (int64_t i = 0; i < count; ++i) result[static_cast<size_t>(i)] = Sum(first[i]);
        for (int s = 1; s < n_sources; ++s) {
            const Stored* next = static_cast<const Stored*>(sources[s]) + begin;
            for (int64_t i = 0; i < count; ++i) {
                Sum& sum = result[static_cast<size_t>(i)];
                sum = combine(sum, Sum(next[i]));
            }
        }
        for (int64_t i = 0; i < count; ++i) out[begin + i] = Stored(result[static_cast<size_t>(i)]);
    }
}

}  // namespace

bool can_reduce(DType dtype, ReduceOp op) {
    return dtype == DType::f32 || dtype == DType::f64 ||
           (dtype == DType::bf16 && op == ReduceOp::sum);
}

void reduce_in_rank_order(const void* const* sources, int n_sources, int64_t elements, DType dtype,
                          ReduceOp op, void* output) {
    TRIREME_CHECK(can_reduce(dtype, op), "sums of f32, bf16 or f64 or largest of f32 or f64");
    if (op == ReduceOp::max) {
        if (dtype == DType::f32) {
            reduce<float, float, max_of<float>>(sources, n_sources, elements, output);
        } else {
            reduce<double, double, max_of<double>>(sources, n_sources, elements, output);
        }
    } else if (dtype == DType::f32) {
        reduce<float, float, sum_of<float>>(sources, n_sources, elements, output);
    } else if (dtype == DType::bf16) {
        reduce<bf16, float, sum_of<float>>(sources, n_sources, elements, output);
    } else {
        reduce<double, double, sum_of<double>>(sources, n_sources, elements, output);
    }
}

}  // namespace trireme
