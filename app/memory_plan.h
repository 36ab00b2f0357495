#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "app/config.h"

namespace trireme {

// What the processes of a training run will hold, found out before the run by making their engines
// on devices without memory. What libraries take for themselves (CUDA, cuBLASLt, cuDNN, NCCL, MPI,
// oneDNN) comes on top, and the host's memory of the data's index.
struct MemoryPlan {
    using Labels = std::map<std::string, size_t>;  // bytes by label

    std::vector<Labels> stages;  // of each process of a pipeline stage, on its device
    // In the host's memory of a process: the copy of what it saves while that is written, of the
    // stage that saves most; 0 where training waits and saves from its own memory.
    uint64_t checkpoint_copy_bytes = 0;
    uint64_t checkpoint_bytes = 0;  // of the tensors of a checkpoint on disk, all processes' shards

    static uint64_t total_of(const Labels& labels);
    uint64_t largest_bytes() const;  // of the stage that holds most
};

// `config` has been checked against its world.
MemoryPlan plan_memory(const Config& config);

}  // namespace trireme
