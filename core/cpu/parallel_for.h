#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace trireme {

// Calls body(begin, end) for contiguous pieces of [0, count) on up to `threads` OpenMP threads of
// the calling thread. A piece has at least `grain` items, so that small work stays on the caller.
// Pieces depend only on count, grain and threads. `body` must not throw.
template <typename Body>
void parallel_ranges(int threads, int64_t count, int64_t grain, const Body& body) {
    if (count <= 0) return;
    const int64_t most = (count + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
    const int pieces = static_cast<int>(std::min<int64_t>(std::max(threads, 1), most));
    if (pieces <= 1) {
        body(int64_t{0}, count);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(pieces)
    for (int i = 0; i < pieces; ++i) body(count * i / pieces, count * (i + 1) / pieces);
}

// Calls body(task, thread) for every task in [0, count), each once, handed out as threads become
// free; thread is in [0, threads). For tasks of unequal size that write to places of their own.
// `body` must not throw.
template <typename Body>
void parallel_tasks(int threads, int64_t count, const Body& body) {
    if (threads <= 1 || count <= 1) {
        for (int64_t task = 0; task < count; ++task) body(task, 0);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t task = 0; task < count; ++task) body(task, omp_get_thread_num());
}

}  // namespace trireme
