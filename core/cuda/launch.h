#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "core/cuda/cuda_error.h"

namespace trireme {

struct Grid {
    dim3 blocks;
    dim3 threads;
    size_t shared_bytes = 0;  // dynamic shared memory of a block
};

inline constexpr int kWarp = 32;
inline constexpr int kBlockThreads = 256;

inline constexpr int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// One thread for each of n elements, or as many blocks as keep a GPU busy: kernels loop with
// a stride of the whole grid.
inline Grid element_grid(int64_t n) {
    const int64_t blocks = (n + kBlockThreads - 1) / kBlockThreads;
    return {dim3(static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, 132 * 16))),
            dim3(kBlockThreads)};
}

// A thread for each of `packs` packs of each of `rows` rows, or as many blocks as keep a GPU busy:
// x runs along a row and covers it, y over the rows, over which kernels loop. So a thread can keep
// what belongs to its columns. Empty when there are no rows or no packs.
inline Grid row_grid(int64_t rows, int64_t packs) {
    const int64_t strips = (packs + kBlockThreads - 1) / kBlockThreads;
    if (strips == 0) return {dim3(0), dim3(1)};
    const int64_t width = (packs + strips - 1) / strips;
    const int64_t height = kBlockThreads / width;
    const int64_t most_pieces = std::max<int64_t>(1, 132 * 16 / strips);
    const int64_t pieces = std::min((rows + height - 1) / height, most_pieces);
    return {dim3(static_cast<unsigned>(strips), static_cast<unsigned>(pieces)),
            dim3(static_cast<unsigned>(width), static_cast<unsigned>(height))};
}

// Enqueues a kernel. Nothing is launched when the grid is empty. All kernels start here, so that
// the tests can run them without a GPU.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Grid& grid, cudaStream_t stream,
            Arguments... arguments) {
    if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
#ifdef __CUDACC__
    kernel<<<grid.blocks, grid.threads, grid.shared_bytes, stream>>>(
        static_cast<Parameters>(arguments)...);
#else
    cuda_emulation::launch(kernel, grid.blocks, grid.threads, grid.shared_bytes, stream,
                           static_cast<Parameters>(arguments)...);
#endif
    check_cuda(cudaGetLastError(), "kernel launch");
}

}  // namespace trireme
