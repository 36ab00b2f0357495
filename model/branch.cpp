#include "model/branch.h"

#include <algorithm>

#include "model/tensor_parallel.h"

namespace trireme {

BranchScratch BranchScratch::take(const ModelContext& context, Arena& arena) {
    const int64_t widest =
        std::max(context.local_ffn(), int64_t{context.local_heads()} * context.model.head_dim);
    return {arena.take(context.compute, {context.tokens(), context.model.hidden}),
            arena.take(context.compute, {context.tokens(), widest})};
}

Dropout residual_dropout(const ModelContext& context, const MicroBatchContext& micro_batch,
                         PhiloxKey key) {
    Dropout dropout;
    dropout.probability = micro_batch.training ? context.model.dropout : 0.0f;
    dropout.key = key;
    dropout.stream = static_cast<uint64_t>(micro_batch.step);
    dropout.first_element = static_cast<uint64_t>(
        (micro_batch.first_sample * context.sequence + context.first_local_token()) *
        context.model.hidden);
    return dropout;
}

Tensor branch_output_gradient(const ModelContext& context, const Tensor& dresidual,
                              const Dropout& dropout, const Tensor& buffer, bool keep,
                              const char* label) {
    if (dropout.probability > 0.0f || (keep && !context.is_sharded_by_token())) {
        const Tensor local = local_slice(context, buffer);
        context.ops().dropout_apply(context.stream(), dresidual, dropout, local);
        return gather_tokens(context, local, buffer, label);
    }
    return gather_tokens(context, dresidual, buffer, label);
}

}  // namespace trireme
