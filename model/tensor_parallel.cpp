#include "model/tensor_parallel.h"

namespace trireme {

namespace {

// Without overlap compute stands still until each exchange is done.
Event started(const ModelContext& context, const Event& event) {
    if (!context.overlap_tensor) context.stream().wait(event);
    return event;
}

}  // namespace

int automatic_pieces(int64_t tokens, int tensor_size, bool sequence_parallel) {
    constexpr int64_t kFewestTokens = 256;
    const int64_t divided = sequence_parallel ? tokens / tensor_size : tokens;
    for (const int pieces : {4, 2}) {
        if (tensor_size > 1 && divided % pieces == 0 && tokens / pieces >= kFewestTokens) {
            return pieces;
        }
    }
    return 1;
}

Tensor piece_of(const ModelContext& context, const Tensor& tokens, int piece) {
    const TokenSpan rows = context.rows_of_piece(tokens.rows(), piece);
    return tokens.row_range(rows.first, rows.count);
}

Tensor own_part(const ModelContext& context, const Tensor& whole, int piece) {
    const int64_t count = context.rows_of_piece(context.local_tokens(), piece).count;
    return whole.row_range(context.first_row(piece), count);
}

const Tensor& gathered_place(const ModelContext& context, const Tensor& local,
                             const Tensor& buffer) {
    return context.is_sharded_by_token() ? buffer : local;
}

void TokenGather::start(int piece, const Tensor& local) {
    if (!context_->is_sharded_by_token()) return;
    const Tensor whole = piece_of(*context_, whole_, piece);
    arrived_[static_cast<size_t>(piece)] = started(
        *context_, context_->mesh.tensor().all_gather(context_->stream(), local, whole, label_));
}

void TokenGather::start_all(const Tensor& local) {
    for (int piece = 0; piece < context_->pieces; ++piece) {
        start(piece, piece_of(*context_, local, piece));
    }
}

Tensor TokenGather::wait(int piece) {
    context_->stream().wait(arrived_[static_cast<size_t>(piece)]);
    return piece_of(*context_, whole_, piece);
}

Tensor TokenGather::wait_all() {
    for (int piece = 0; piece < context_->pieces; ++piece) wait(piece);
    return whole_;
}

void TokenReduction::start(int piece, const Tensor& local) {
    if (context_.tensor_size() == 1) return;
    Communicator& tensor = context_.mesh.tensor();
    const Tensor partial = piece_of(context_, partial_, piece);
    arrived_[static_cast<size_t>(piece)] = started(
        context_, context_.sequence_parallel
                      ? tensor.reduce_scatter(context_.stream(), partial, local, label_)
                      : tensor.all_reduce(context_.stream(), partial, ReduceOp::sum, label_));
}

Tensor TokenReduction::wait(int piece) {
    context_.stream().wait(arrived_[static_cast<size_t>(piece)]);
    return own_part(context_, partial_, piece);
}

}  // namespace trireme
