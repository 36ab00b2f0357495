#include "model/embedding.h"

#include <algorithm>
#include <optional>

#include "model/replicated_parameter.h"
#include "model/tensor_parallel.h"

namespace trireme {

ParameterSpec vocabulary_matrix(const ModelContext& context, const std::string& name) {
    ParameterSpec spec;
    spec.name = name;
    spec.global = {context.model.vocab_size, context.model.hidden};
    // A rank may hold padding only.
    const int64_t first = std::min<int64_t>(context.first_vocab_row(), context.model.vocab_size);
    spec.box = {{first, 0}, {context.valid_vocab_rows(), context.model.hidden}};
    spec.padding_rows = context.local_vocab() - context.valid_vocab_rows();
    spec.decay = true;
    spec.is_outsize = true;
    spec.init_std = context.model.init_std;
    return spec;
}

Embedding::Embedding(const ModelContext& context, ParameterStore& store,
                     const ChunkBuffers& buffers, bool tied_apart)
    : context_(context),
      store_(store),
      buffers_(buffers),
      key_(make_key(context.seed, "dropout/embedding")) {
    ParameterSpec token = vocabulary_matrix(context, kTokenEmbeddingName);
    token.own_bucket = tied_apart;
    token_ = store.declare(token);
    if (context.model.family != Family::gpt2) return;
    ParameterSpec position = replicated_matrix(
        context, "embedding.position.weight",
        {context.model.max_sequence_length, context.model.hidden}, GradientPart::tokens);
    position.decay = true;
    position.init_std = context.model.init_std;
    position_ = store.declare(position);
}

Tensor Embedding::documents_of(const MicroBatchContext& micro_batch, int piece) const {
    if (!micro_batch.document_begin) return {};
    const int64_t count = context_.rows_of_piece(context_.local_tokens(), piece).count;
    return micro_batch.document_begin.flat_range(context_.first_token(piece), count);
}

void Embedding::forward(const MicroBatchContext& micro_batch, const Tensor& ids,
                        const Tensor& out) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    // In place on one rank.
    const Tensor& whole = context_.tensor_size() > 1 ? buffers_.partial : out;
    TokenReduction sum(context_, whole, "embedding");
    {
        const ParameterUse use(store_, token_);
        for (int piece = 0; piece < context_.pieces; ++piece) {
            const TokenSpan rows = context_.rows_of_piece(context_.tokens(), piece);
            ops.embedding_forward(stream, ids.flat_range(rows.first, rows.count),
                                  store_.value(token_), context_.first_vocab_row(),
                                  piece_of(context_, whole, piece));
            sum.start(piece);
        }
    }
    std::optional<ParameterUse> use;
    if (position_ >= 0) use.emplace(store_, position_);
    for (int piece = 0; piece < context_.pieces; ++piece) {
        const Tensor part = piece_of(context_, out, piece);
        const Tensor summed = sum.wait(piece);
        if (context_.tensor_size() > 1) ops.copy(stream, summed, part);
        if (position_ >= 0) {
            ops.position_forward(stream, store_.value(position_), context_.first_token(piece),
                                 context_.sequence, documents_of(micro_batch, piece), part);
        }
        const Dropout dropout = residual_dropout(context_, micro_batch, key_, piece);
        if (dropout.probability > 0.0f) ops.dropout_apply(stream, part, dropout, part);
    }
}

void Embedding::backward(const MicroBatchContext& micro_batch, const Tensor& ids,
                         const Tensor& doutput) const {
    Ops& ops = context_.ops();
    Stream& stream = context_.stream();
    TokenGather gather(context_, gathered_place(context_, doutput, buffers_.partial),
                       "embedding gradient");
    store_.open_gradients(token_);
    if (position_ >= 0) store_.open_gradients(position_);
    for (int piece = 0; piece < context_.pieces; ++piece) {
        const Tensor part = piece_of(context_, doutput, piece);
        const Dropout dropout = residual_dropout(context_, micro_batch, key_, piece);
        if (dropout.probability > 0.0f) ops.dropout_apply(stream, part, dropout, part);
        gather.start(piece, part);
    }
    for (int piece = 0; position_ >= 0 && piece < context_.pieces; ++piece) {
        ops.position_backward(stream, piece_of(context_, doutput, piece),
                              context_.first_token(piece), context_.sequence,
                              documents_of(micro_batch, piece), store_.gradient(position_));
    }
    ops.embedding_backward(stream, gather.wait_all(), ids, context_.first_vocab_row(),
                           store_.gradient(token_));
    store_.close_gradients(token_);
    if (position_ >= 0) store_.close_gradients(position_);
}

void Embedding::collect_parameters(std::vector<int>& indices) const {
    indices.push_back(token_);
    if (position_ >= 0) indices.push_back(position_);
}

}  // namespace trireme
