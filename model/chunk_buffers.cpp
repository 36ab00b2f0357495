#include "model/chunk_buffers.h"

#include <algorithm>

namespace trireme {

ChunkBuffers ChunkBuffers::take(const ModelContext& context, Arena& arena) {
    const int64_t widest =
        std::max(context.local_ffn(), int64_t{context.local_heads()} * context.model.head_dim);
    const Shape residual{context.tokens(), context.model.hidden};
    ChunkBuffers buffers;
    buffers.partial = arena.take(context.compute, residual);
    if (context.is_sharded_by_token()) buffers.gathered = arena.take(context.compute, residual);
    buffers.inner = arena.take(context.compute, {context.tokens(), widest});
    buffers.exchange = HeadExchange::take(context, arena);
    if (context.model.family == Family::llama) {
        buffers.rope = arena.take(DType::f32, {context.sequence, 2, context.model.head_dim / 2});
    }
    return buffers;
}

}  // namespace trireme
