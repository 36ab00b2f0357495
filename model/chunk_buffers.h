#pragma once

#include "core/arena.h"
#include "model/head_exchange.h"
#include "model/model_context.h"

namespace trireme {

// What a chunk has once for all its layers, the embedding and the head, which refer to it and read
// it when they compute: buffers that live for one call, and the table of rotations.
struct ChunkBuffers {
    Tensor partial;   // [tokens, C] sums over the tensor ranks in the making
    Tensor gathered;  // [tokens, C] input of a column-parallel layer; absent where a rank holds it
    Tensor inner;     // [tokens, widest row-parallel input] its gradient
    HeadExchange exchange;
    Tensor rope;  // [T, 2, D / 2] f32, absent for learned positions; not filled yet

    static ChunkBuffers take(const ModelContext& context, Arena& arena);
};

}  // namespace trireme
