#include "model/head_exchange.h"

namespace trireme {

HeadExchange HeadExchange::take(const ModelContext& context, Arena& arena) {
    if (context.context_size() == 1) return {};
    const HeadParts how = context.head_parts();
    const int64_t tokens = context.tokens(), all_tokens = context.micro_batch_tokens();
    HeadExchange exchange;
    exchange.parts = arena.take(context.compute, {how.parts, tokens, how.part_width()});
    exchange.heads = arena.take(context.compute, {all_tokens, context.query_parts().part_width()});
    exchange.heads_column = arena.take(context.compute, {all_tokens, how.part_width()});
    exchange.column =
        exchange.heads_column.flat_range(0, tokens * how.width()).reshaped({tokens, how.width()});
    return exchange;
}

Tensor HeadExchange::parts_of(const HeadParts& how) const {
    const int64_t tokens = parts.shape[1];
    return parts.flat_range(0, how.parts * tokens * how.part_width())
        .reshaped({how.parts * tokens, how.part_width()});
}

// Parts of consecutive ranks hold consecutive tokens, so what arrives is in order as it lies.
void HeadExchange::to_heads(const ModelContext& context, const HeadParts& how, const Tensor& rows,
                            const Tensor& all, const char* label) const {
    const Tensor own = parts_of(how);
    Stream& stream = context.stream();
    context.ops().split_heads(stream, how, rows, own);
    stream.wait(context.mesh.context().all_to_all(stream, own, all, label));
}

void HeadExchange::to_tokens(const ModelContext& context, const HeadParts& how, const Tensor& all,
                             const Tensor& rows, const char* label) const {
    const Tensor arrived = parts_of(how);
    Stream& stream = context.stream();
    stream.wait(context.mesh.context().all_to_all(stream, all, arrived, label));
    context.ops().join_heads(stream, how, arrived, rows);
}

}  // namespace trireme
