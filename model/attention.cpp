#include "model/attention.h"

#include <cmath>

namespace trireme {

namespace {

std::vector<ColumnPart> qkv_parts(const ModelContext& context, const std::string& name) {
    const int64_t head_dim = context.model.head_dim;
    const int64_t query_rows = context.local_heads() * head_dim;
    const int64_t kv_rows = context.local_kv_heads() * head_dim;
    const bool shared = context.model.kv_heads < context.tensor_size();
    const int sharers = shared ? context.tensor_size() / context.model.kv_heads : 1;

    ColumnPart query{.name = name + ".query",
                     .global_rows = context.model.query_size(),
                     .first_row = context.tensor_rank() * query_rows,
                     .local_rows = query_rows};
    ColumnPart key{
        .name = name + ".key",
        .global_rows = context.model.kv_size(),
        .first_row = context.first_kv_head() * head_dim,
        .local_rows = kv_rows,
        .sharing = shared ? ParameterSpec::Sharing::tensor_kv : ParameterSpec::Sharing::none,
        .owner = context.tensor_rank() % sharers == 0};
    ColumnPart value = key;
    value.name = name + ".value";
    return {query, key, value};
}

// None where nothing is exchanged.
Shape exchanged_shape(const ModelContext& context, int64_t width) {
    return context.context_size() > 1 ? Shape{context.micro_batch_tokens(), width} : Shape{};
}

}  // namespace

AttentionBranch::AttentionBranch(const ModelContext& context, ParameterStore& store,
                                 const ChunkBuffers& buffers, const std::string& layer)
    : Branch(context, store, buffers,
             {.layer = layer,
              .name = "attention",
              .row_name = "output",
              .columns = qkv_parts(context, layer + ".attention"),
              .inner_features = context.model.query_size(),
              .statistics = {context.batch, context.head_parts().part_heads(), context.sequence},
              .column_bias = context.model.family == Family::gpt2 || context.model.qkv_bias,
              .keeps_column = context.model.qk_norm,
              .kept_column = exchanged_shape(context, context.head_parts().part_width()),
              .heads = exchanged_shape(context, context.query_parts().part_width())}),
      probability_key_(make_key(context.seed, "dropout/" + layer + ".attention.probability")) {
    if (context.model.qk_norm) head_norm_.emplace(context, store, layer + ".attention");
}

AttentionShape AttentionBranch::shape(const MicroBatchContext& micro_batch, int64_t tokens) const {
    AttentionShape shape;
    shape.batch = context_.span ? 1 : tokens / context_.sequence;
    shape.sequence = context_.span ? context_.span.end() : context_.sequence;
    shape.first_query = static_cast<int>(context_.span.first);
    const HeadParts parts = context_.head_parts();
    shape.heads = parts.part_heads();
    shape.kv_heads = parts.part_kv_heads();
    shape.head_dim = context_.model.head_dim;
    shape.scale = 1.0f / std::sqrt(static_cast<float>(context_.model.head_dim));
    shape.heads_global = context_.model.heads;
    shape.dropout.probability = micro_batch.training ? context_.model.dropout : 0.0f;
    shape.dropout.key = probability_key_;
    shape.dropout.stream = static_cast<uint64_t>(micro_batch.step);
    const int64_t first_head = int64_t{context_.tensor_rank()} * context_.local_heads() +
                               int64_t{context_.context_rank()} * parts.part_heads();
    shape.dropout.first_element =
        static_cast<uint64_t>((micro_batch.first_sample * context_.model.heads + first_head) *
                              context_.sequence * context_.sequence);
    // RoPE turns by differences of positions, which are the same from the document's beginning.
    shape.document_begin = micro_batch.document_begin;
    return shape;
}

Tensor AttentionBranch::by_sequence(const Tensor& qkv) const {
    const int64_t length = context_.span ? context_.span.count : context_.sequence;
    return qkv.reshaped({qkv.rows() / length, length, qkv.cols()});
}

void AttentionBranch::rotate(const Tensor& qkv) const {
    if (!buffers_.rope) return;
    Tensor table = buffers_.rope;
    if (const TokenSpan span = context_.span) {
        table = buffers_.rope.row_range(2 * span.first, 2 * span.count)
                    .reshaped({span.count, 2, context_.model.head_dim / 2});
    }
    const HeadParts parts = context_.head_parts();
    context_.ops().rope_forward(context_.stream(), by_sequence(qkv), table, parts.part_heads(),
                                parts.part_kv_heads(), parts.head_dim);
}

void AttentionBranch::attend(const MicroBatchContext& micro_batch,
                             const BranchActivations& part) const {
    const AttentionShape shape = this->shape(micro_batch, part.column.rows());
    const int64_t tokens = shape.batch * shape.sequence;
    context_.ops().attention_forward(context_.stream(), shape, attended(part).row_range(0, tokens),
                                     attention_output(part).row_range(0, tokens),
                                     part.statistics.flat_range(0, tokens * shape.heads));
    if (exchanges()) {
        buffers_.exchange.to_tokens(context_, context_.query_parts(), part.heads, part.inner,
                                    "attention output");
    }
}

void AttentionBranch::interior_forward(const MicroBatchContext& micro_batch,
                                       const BranchActivations& part) const {
    if (exchanges()) {
        buffers_.exchange.to_heads(context_, context_.head_parts(), buffers_.exchange.column,
                                   part.column, "queries, keys and values");
    }
    prepare(part);
    attend(micro_batch, part);
}

void AttentionBranch::prepare(const BranchActivations& part) const {
    if (head_norm_) head_norm_->forward(made_now(part.column), made_now(part.prepared));
    rotate(made_now(attended(part)));
}

// Without a norm the queries and keys in part.column have been rotated already.
void AttentionBranch::interior_again(const MicroBatchContext& micro_batch,
                                     const BranchActivations& part) const {
    if (head_norm_) prepare(part);
    attend(micro_batch, part);
}

void AttentionBranch::interior_backward(const MicroBatchContext& micro_batch,
                                        const BranchActivations& part, const Tensor& dinner,
                                        const Tensor& dcolumn) const {
    if (!exchanges()) {
        attend_backward(micro_batch, part, dinner, dcolumn);
        return;
    }
    buffers_.exchange.to_heads(context_, context_.query_parts(), dinner, buffers_.exchange.heads,
                               "attention output gradient");
    attend_backward(micro_batch, part, buffers_.exchange.heads, buffers_.exchange.heads_column);
    buffers_.exchange.to_tokens(context_, context_.head_parts(), buffers_.exchange.heads_column,
                                dcolumn, "gradient of queries, keys and values");
}

void AttentionBranch::attend_backward(const MicroBatchContext& micro_batch,
                                      const BranchActivations& part, const Tensor& doutput,
                                      const Tensor& dcolumn) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    ops.attention_backward(stream, shape(micro_batch, part.column.rows()), doutput, attended(part),
                           attention_output(part), part.statistics, dcolumn);
    if (buffers_.rope) {
        const HeadParts parts = context_.head_parts();
        ops.rope_backward(stream, by_sequence(dcolumn), buffers_.rope, parts.part_heads(),
                          parts.part_kv_heads(), parts.head_dim);
    }
    if (head_norm_) head_norm_->backward(part.column, dcolumn);
}

void AttentionBranch::take_kv_cache(Arena& arena, BranchActivations& activations) const {
    Tensor& tensor = head_norm_ ? activations.prepared : activations.column;
    tensor = arena.take(context_.compute, tensor.shape);
}

void AttentionBranch::collect_parameters(std::vector<int>& indices) const {
    Branch::collect_parameters(indices);
    if (head_norm_) head_norm_->collect_parameters(indices);
}

}  // namespace trireme
