#pragma once

#include "core/cuda/device_code.h"

// The forward of the norms, one block a row. For .cu files only.

namespace trireme {

inline constexpr int kMostThreads = 1024;

struct Two {
    float a = 0.0f;
    float b = 0.0f;
};

// Sums over the threads of a block, in all of them. Calls that follow each other alternate `turn`
// between 0 and 1: then one barrier each is enough.
__device__ inline Two block_sum(Two value, int turn) {
    __shared__ Two of_warp[2][kMostThreads / kWarp];
    value = {warp_reduce<Sum>(value.a), warp_reduce<Sum>(value.b)};
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    if (warps == 1) return value;
    const int thread = static_cast<int>(threadIdx.x);
    if (thread % kWarp == 0) of_warp[turn][thread / kWarp] = value;
    __syncthreads();
    Two sum = of_warp[turn][0];
    for (int i = 1; i < warps; ++i) {
        sum.a += of_warp[turn][i].a;
        sum.b += of_warp[turn][i].b;
    }
    return sum;
}

__device__ inline float reciprocal_root(float value) {
    return 1.0f / sqrtf(value);
}

// Threads of a block that takes a row of `packs`, `of_thread` of them or fewer a thread.
inline int row_threads(int64_t packs, int64_t of_thread) {
    const int64_t threads = (packs + of_thread - 1) / of_thread;
    return static_cast<int>(
        std::clamp<int64_t>((threads + kWarp - 1) / kWarp * kWarp, kWarp, kMostThreads));
}

// As a T holds them.
template <typename T, int n>
__device__ Floats<n> rounded(Floats<n> values) {
#pragma unroll
    for (int k = 0; k < n; ++k) values[k] = to_float(from_float<T>(values[k]));
    return values;
}

// A row of a block: a thread has every blockDim.x-th pack of n elements. `kept` packs stay in its
// registers after they are loaded; with kept = 0, for rows of any length, they are read again by
// each loop.
template <typename T, int n, int kept>
class BlockRow {
public:
    __device__ BlockRow(const T* row, int64_t packs) : row_(row), packs_(packs) {
#pragma unroll
        for (int i = 0; i < kept; ++i) {
            const int64_t pack = threadIdx.x + i * blockDim.x;
            if (pack < packs_) values_[i] = load_floats<n>(row_ + pack * n);
        }
    }
    // The same of a row that is first written: source.make(source.load(pack), pack) gives its
    // packs. What is written may lie where something is loaded, so that the compiler keeps the
    // order of the two: all loads first, or each would wait for the one before.
    template <typename Source>
    __device__ BlockRow(T* row, int64_t packs, const Source& source) : row_(row), packs_(packs) {
        using Loaded = typename Source::Loaded;
        const auto put = [&](int64_t pack, const Loaded& loaded) {
            const Floats<n> values = rounded<T>(source.make(loaded, pack));
            store_floats<n>(row + pack * n, values);
            return values;
        };
        if constexpr (kept > 0) {
            Loaded loaded[kept];
#pragma unroll
            for (int i = 0; i < kept; ++i) {
                const int64_t pack = threadIdx.x + i * blockDim.x;
                if (pack < packs_) loaded[i] = source.load(pack);
            }
#pragma unroll
            for (int i = 0; i < kept; ++i) {
                const int64_t pack = threadIdx.x + i * blockDim.x;
                if (pack < packs_) values_[i] = put(pack, loaded[i]);
            }
        } else {
            for (int64_t pack = threadIdx.x; pack < packs_; pack += blockDim.x) {
                put(pack, source.load(pack));
            }
        }
    }

    // body(pack, values of the pack), for all packs of this thread.
    template <typename Body>
    __device__ void for_each(const Body& body) const {
        if constexpr (kept > 0) {
#pragma unroll
            for (int i = 0; i < kept; ++i) {
                const int64_t pack = threadIdx.x + i * blockDim.x;
                if (pack < packs_) body(pack, values_[i]);
            }
        } else {
            for (int64_t pack = threadIdx.x; pack < packs_; pack += blockDim.x) {
                body(pack, load_floats<n>(row_ + pack * n));
            }
        }
    }

private:
    const T* row_;
    int64_t packs_;
    Floats<n> values_[kept > 0 ? kept : 1];
};

// Layer norm of the block's row: a mean, then a pass of its own over the deviations, which loses
// nothing to cancellation and finds the rounding error of the mean too.
template <typename T>
struct LayerNormOutput {
    const T* weight;
    const T* bias;
    float eps;
    T* y;
    float* means;
    float* rstds;

    template <int n, int kept>
    __device__ void write(const BlockRow<T, n, kept>& row, int64_t cols) const {
        const float count = static_cast<float>(cols);
        Two sum;
        row.for_each([&](int64_t, const Floats<n>& values) {
#pragma unroll
            for (int k = 0; k < n; ++k) sum.a += values[k];
        });
        const float center = block_sum(sum, 0).a / count;
        Two of_deviations;
        row.for_each([&](int64_t, const Floats<n>& values) {
#pragma unroll
            for (int k = 0; k < n; ++k) {
                const float deviation = values[k] - center;
                of_deviations.a += deviation;
                of_deviations.b += deviation * deviation;
            }
        });
        of_deviations = block_sum(of_deviations, 1);
        const float shift = of_deviations.a / count;
        const float variance = of_deviations.b / count - shift * shift;
        const float mean = center + shift;
        // Not fmaxf, which would turn NaN into 0.
        const float rstd = reciprocal_root((variance < 0.0f ? 0.0f : variance) + eps);
        row.for_each([&](int64_t pack, const Floats<n>& values) {
            const Floats<n> w = load_floats<n>(weight + pack * n);
            const Floats<n> b = load_floats<n>(bias + pack * n);
            Floats<n> result;
#pragma unroll
            for (int k = 0; k < n; ++k) result[k] = (values[k] - mean) * rstd * w[k] + b[k];
            store_floats<n>(y + blockIdx.x * cols + pack * n, result);
        });
        if (threadIdx.x == 0) {
            means[blockIdx.x] = mean;
            rstds[blockIdx.x] = rstd;
        }
    }
};

template <typename T>
struct RmsNormOutput {
    const T* weight;
    float eps;
    T* y;
    float* rstds;

    template <int n, int kept>
    __device__ void write(const BlockRow<T, n, kept>& row, int64_t cols) const {
        Two sum;
        row.for_each([&](int64_t, const Floats<n>& values) {
#pragma unroll
            for (int k = 0; k < n; ++k) sum.a += values[k] * values[k];
        });
        const float mean_square = block_sum(sum, 0).a / static_cast<float>(cols);
        const float rstd = reciprocal_root(mean_square + eps);
        row.for_each([&](int64_t pack, const Floats<n>& values) {
            const Floats<n> w = load_floats<n>(weight + pack * n);
            Floats<n> result;
#pragma unroll
            for (int k = 0; k < n; ++k) result[k] = values[k] * rstd * w[k];
            store_floats<n>(y + blockIdx.x * cols + pack * n, result);
        });
        if (threadIdx.x == 0) rstds[blockIdx.x] = rstd;
    }
};

// Calls body.template operator()<T, n, kept>(grid) for rows of these sizes.
template <typename Body>
void with_block_rows(DType type, int64_t rows, int64_t cols,
                     std::initializer_list<const void*> addresses, const Body& body) {
    constexpr int kKept = 4;
    with_packs(type, cols, addresses, [&]<typename T, int n>() {
        const int64_t packs = cols / n;
        const Grid grid{dim3(static_cast<unsigned>(rows)),
                        dim3(static_cast<unsigned>(row_threads(packs, kKept)))};
        // Rows of single elements are rare; their registers would hold little.
        if constexpr (n > 1) {
            if (packs <= kKept * kMostThreads) {
                body.template operator()<T, n, kKept>(grid);
                return;
            }
        }
        body.template operator()<T, n, 0>(grid);
    });
}

}  // namespace trireme
