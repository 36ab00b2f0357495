#include "model/attention.h"

#include <cmath>

#include "model/tensor_parallel.h"

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

}  // namespace

AttentionBranch::AttentionBranch(const ModelContext& context, ParameterStore& store,
                                 const std::string& name, const Tensor& rope)
    : context_(context),
      residual_key_(make_key(context.seed, "dropout/" + name + ".attention")),
      probability_key_(make_key(context.seed, "dropout/" + name + ".attention.probability")),
      norm_(context, store, name + ".attention_norm"),
      qkv_(context, store, qkv_parts(context, name + ".attention"), context.model.hidden,
           context.model.family == Family::gpt2),
      output_(context, store, name + ".attention.output", context.model.hidden,
              context.model.query_size(), context.model.family == Family::gpt2,
              context.model.init_std / std::sqrt(2.0f * static_cast<float>(context.model.layers))),
      rope_(rope) {}

int64_t AttentionBranch::qkv_width() const {
    return int64_t{context_.local_heads() + 2 * context_.local_kv_heads()} *
           context_.model.head_dim;
}

AttentionBranch::Activations AttentionBranch::take_activations(Arena& arena) const {
    const int64_t tokens = context_.tokens();
    return {norm_.take_statistics(arena),
            arena.take(context_.compute, {tokens, context_.model.hidden}),
            arena.take(context_.compute, {tokens, qkv_width()}),
            arena.take(context_.compute,
                       {tokens, int64_t{context_.local_heads()} * context_.model.head_dim}),
            arena.take(DType::f32, {context_.batch, context_.local_heads(), context_.sequence})};
}

BranchGradients AttentionBranch::take_gradients(Arena& arena) const {
    return {arena.take(context_.compute, {context_.tokens(), context_.model.hidden}),
            arena.take(context_.compute, {context_.tokens(), qkv_width()})};
}

AttentionShape AttentionBranch::shape(const MicroBatchContext& micro_batch) const {
    AttentionShape shape;
    shape.batch = context_.batch;
    shape.sequence = context_.sequence;
    shape.heads = context_.local_heads();
    shape.kv_heads = context_.local_kv_heads();
    shape.head_dim = context_.model.head_dim;
    shape.scale = 1.0f / std::sqrt(static_cast<float>(context_.model.head_dim));
    shape.heads_global = context_.model.heads;
    shape.dropout.probability = micro_batch.training ? context_.model.dropout : 0.0f;
    shape.dropout.key = probability_key_;
    shape.dropout.stream = static_cast<uint64_t>(micro_batch.step);
    const int64_t first_head = int64_t{context_.tensor_rank()} * context_.local_heads();
    shape.dropout.first_element =
        static_cast<uint64_t>((micro_batch.first_sample * context_.model.heads + first_head) *
                              context_.sequence * context_.sequence);
    return shape;
}

void AttentionBranch::forward(const MicroBatchContext& micro_batch, const Tensor& x,
                              const Activations& saved, const BranchScratch& scratch,
                              const Tensor& out) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    const Tensor normed_local = local_slice(context_, saved.normed);
    norm_.forward(x, normed_local, saved.norm);
    const Tensor normed = gather_tokens(context_, normed_local, saved.normed, "attention input");
    qkv_.forward(normed, saved.qkv);
    if (rope_) {
        ops.rope_forward(
            stream, saved.qkv.reshaped({context_.batch, context_.sequence, qkv_width()}), rope_,
            context_.local_heads(), context_.local_kv_heads(), context_.model.head_dim);
    }
    ops.attention_forward(stream, shape(micro_batch), saved.qkv, saved.attended, saved.lse);
    output_.forward(saved.attended, scratch.partial);
    TokenReduction sum(context_, scratch.partial, local_slice(context_, scratch.partial),
                       "attention output");
    ops.residual_add_forward(stream, x, sum.wait(), output_.bias(),
                             residual_dropout(context_, micro_batch, residual_key_), out);
}

void AttentionBranch::backward(const MicroBatchContext& micro_batch, const Tensor& x,
                               const Activations& saved, const BranchScratch& scratch,
                               BranchGradients& gradients, const Tensor& dresidual,
                               bool with_weights) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    const Tensor doutput = branch_output_gradient(
        context_, dresidual, residual_dropout(context_, micro_batch, residual_key_),
        gradients.output, !with_weights, "attention output gradient");
    const Tensor dattended =
        scratch.inner.flat_range(0, saved.attended.elements()).reshaped(saved.attended.shape);
    output_.backward_input(doutput, dattended);
    if (with_weights) output_.backward_weight(doutput, saved.attended);
    ops.attention_backward(stream, shape(micro_batch), dattended, saved.qkv, saved.attended,
                           saved.lse, gradients.column);
    if (rope_) {
        ops.rope_backward(
            stream, gradients.column.reshaped({context_.batch, context_.sequence, qkv_width()}),
            rope_, context_.local_heads(), context_.local_kv_heads(), context_.model.head_dim);
    }
    qkv_.backward_input(gradients.column, scratch.partial);
    TokenReduction sum(context_, scratch.partial, local_slice(context_, scratch.partial),
                       "attention input gradient");
    if (with_weights) qkv_.backward_weight(gradients.column, saved.normed);
    norm_.backward(sum.wait(), x, saved.norm, dresidual);
}

void AttentionBranch::backward_weight(const Activations& saved,
                                      const BranchGradients& gradients) const {
    output_.backward_weight(gradients.output, saved.attended);
    qkv_.backward_weight(gradients.column, saved.normed);
}

void AttentionBranch::collect_parameters(std::vector<int>& indices) const {
    norm_.collect_parameters(indices);
    qkv_.collect_parameters(indices);
    output_.collect_parameters(indices);
}

}  // namespace trireme
