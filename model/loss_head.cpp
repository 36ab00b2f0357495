#include "model/loss_head.h"

#include <algorithm>

#include "model/embedding.h"
#include "model/tensor_parallel.h"

namespace trireme {

namespace {

// Logits at a time: enough for efficient matmuls, few enough to bound memory at large vocabularies.
// Each chunk of tokens reads and writes the whole gradient of the weight, which a GPU can hide only
// behind the product of a few thousand tokens.
int64_t logits_at_a_time(Backend backend) {
    return int64_t{backend == Backend::cuda ? 256 : 64} << 20;
}

constexpr int64_t kTileTokens = 128;  // of a matrix product on a GPU

int declare_weight(const ModelContext& context, ParameterStore& store) {
    const bool is_copy = context.model.tie_embeddings;  // of the first stage's embedding
    ParameterSpec spec = vocabulary_matrix(context, is_copy ? kTokenEmbeddingName : "head.weight");
    spec.own_bucket = is_copy;
    spec.owner = !is_copy;
    return store.declare(spec);
}

}  // namespace

LossHead::LossHead(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
                   int tied)
    : context_(context),
      store_(store),
      buffers_(buffers),
      norm_(context, store, "final_norm"),
      owns_weight_(tied < 0),
      weight_(tied >= 0 ? tied : declare_weight(context, store)) {}

int64_t LossHead::chunk_tokens() const {
    const int64_t tokens = context_.tokens() / context_.pieces;
    const int64_t most =
        std::max(kTileTokens, logits_at_a_time(context_.device.backend()) / context_.local_vocab());
    const int64_t chunks = (tokens + most - 1) / most;
    const int64_t even = (tokens + chunks - 1) / chunks;
    const int64_t whole_tiles = (even + kTileTokens - 1) / kTileTokens * kTileTokens;
    return std::min(whole_tiles, tokens);
}

LossHead::Activations LossHead::take_activations(Arena& arena) const {
    const Shape shape{context_.local_tokens(), context_.model.hidden};
    return {norm_.take_statistics(arena), arena.take(context_.compute, shape),
            arena.take(context_.compute, shape)};
}

void LossHead::take_scratch(Arena& arena) {
    const int64_t chunk = chunk_tokens();
    scratch_.logits = arena.take(DType::f32, {chunk, context_.local_vocab()});
    scratch_.dlogits = context_.compute == DType::f32
                           ? scratch_.logits
                           : arena.take(context_.compute, {chunk, context_.local_vocab()});
    scratch_.row_max = arena.take(DType::f32, {chunk});
    scratch_.sums = arena.take(DType::f32, {2, chunk});
    scratch_.losses = arena.take(DType::f32, {context_.tokens()});
}

NormedTokens LossHead::normed_tokens(const Activations& saved) const {
    return {context_,          norm_,
            saved.normed,      saved.norm,
            buffers_.gathered, NormedTokens::Gather::on_start,
            "head input"};
}

void LossHead::forward(const MicroBatchContext& micro_batch, NormedTokens& normed, const Loss& loss,
                       const Activations& saved) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    Communicator& tensor = context_.mesh.tensor();
    const Tensor& partial = gathered_place(context_, saved.gradient, buffers_.partial);
    TokenReduction gradient(context_, partial, "head input gradient");
    const auto gather = [&](int piece) {
        if (piece < context_.pieces) normed.start(piece);
    };
    gather(0);
    const ParameterUse use(store_, weight_);
    const Tensor weight = store_.value(weight_);
    const int64_t valid = context_.valid_vocab_rows();
    const int64_t first_row = context_.first_vocab_row();
    if (micro_batch.training) store_.open_gradients(weight_);

    const int64_t piece_tokens = context_.tokens() / context_.pieces;
    for (int64_t begin = 0; begin < context_.tokens();) {
        const int piece = static_cast<int>(begin / piece_tokens);
        const int64_t left_of_piece = (piece + 1) * piece_tokens - begin;
        const int64_t count = std::min(scratch_.logits.rows(), left_of_piece);
        const Tensor hidden = normed.wait(piece).row_range(piece_tokens - left_of_piece, count);
        const Tensor chunk_labels = loss.labels.flat_range(begin, count);
        const Tensor logits = scratch_.logits.row_range(0, count);
        const Tensor row_max = scratch_.row_max.flat_range(0, count);
        const Tensor sums = scratch_.sums.flat_range(0, 2 * count).reshaped({2, count});
        ops.linear_forward(stream, hidden, weight, Tensor(), logits);
        if (loss.take_logits) loss.take_logits(begin, logits);
        ops.cross_entropy_max(stream, logits, valid, row_max);
        stream.wait(tensor.all_reduce(stream, row_max, ReduceOp::max, "softmax maximum"));
        ops.cross_entropy_exp(stream, logits, valid, row_max, chunk_labels, first_row, sums);
        stream.wait(tensor.all_reduce(stream, sums, ReduceOp::sum, "softmax sum"));
        // The next piece does not stand before these small sums in the queue.
        if (count == left_of_piece) gather(piece + 1);
        const Tensor dlogits =
            micro_batch.training ? scratch_.dlogits.row_range(0, count) : Tensor();
        ops.cross_entropy_finish(stream, logits, valid, chunk_labels, first_row, sums, loss.scale,
                                 scratch_.losses.flat_range(begin, count), dlogits);
        if (micro_batch.training) {
            ops.linear_backward_input(stream, dlogits, weight, partial.row_range(begin, count));
            if (count == left_of_piece) {
                gradient.start(piece, piece_of(context_, saved.gradient, piece));
            }
            ops.linear_backward_weight(stream, dlogits, hidden, store_.gradient(weight_));
        }
        begin += count;
    }
    ops.add_sum(stream, scratch_.losses, loss.total);
    if (loss.tokens) ops.copy(stream, scratch_.losses, loss.tokens);
    if (!micro_batch.training) return;
    // The embedding adds its part to a weight that they share.
    if (owns_weight_) store_.close_gradients(weight_);
    for (int piece = 0; piece < context_.pieces; ++piece) gradient.wait(piece);
}

void LossHead::backward(const Tensor& x, const Activations& saved, const Tensor& dx) const {
    context_.ops().fill_zero(context_.stream(), dx);
    norm_.backward(saved.gradient, x, saved.norm, dx);
}

void LossHead::logits_of_token(const Tensor& x, int64_t token, const Activations& saved,
                               const Tensor& logits) const {
    NormedTokens normed = normed_tokens(saved);
    for (int piece = 0; piece < context_.pieces; ++piece) {
        normed.make(x, piece);
        normed.start(piece);
    }
    const ParameterUse use(store_, weight_);
    context_.ops().linear_forward(context_.stream(), normed.wait_all().row_range(token, 1),
                                  store_.value(weight_), Tensor(), logits);
}

void LossHead::collect_parameters(std::vector<int>& indices) const {
    norm_.collect_parameters(indices);
    if (owns_weight_) indices.push_back(weight_);
}

}  // namespace trireme
