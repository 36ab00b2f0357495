#pragma once

#include <span>

#include "core/tensor.h"
#include "parallel/communicator.h"
#include "parallel/flat_layout.h"

namespace trireme {

// The ranks over which a stage's gradients are summed.
struct GradientGroups {
    Communicator& data;                // all that have the same parameters
    Communicator& shard;               // those of them among which a bucket is sharded
    Communicator& tensor;              // for what tensor ranks only have together
    Communicator& tensor_kv;           // for key/value heads that they share
    Communicator* replicas = nullptr;  // who hold the same shard, where `shard` is not all of data
};

// The gradients of a chunk in a flat buffer.
struct ChunkGradients {
    std::span<const ParameterSpec> parameters;
    const FlatLayout* layout = nullptr;
    Tensor gradients;  // f32: all elements of the layout, or this rank's shard alone
};

}  // namespace trireme
