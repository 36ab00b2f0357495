#pragma once

#include <array>

#include "model/model_context.h"

namespace trireme {

// The two conjugate exchanges around a tensor-parallel region (Shoeybi et al. 2019; with sequence
// parallelism Korthikanti et al. 2022). Without sequence parallelism gather is the identity and
// reduce an all-reduce; with it they are all-gather and reduce-scatter along the tokens. The
// backward of each is the other.
//
// Both work piece by piece (see ModelContext::pieces): one is on its way while compute makes the
// next or uses the last. Every tensor rank starts the same pieces in the same order.

// A piece's rows of a tensor of tokens, whole [tokens, C] or local [local tokens, C]. Where a pass
// computes a span of the tokens, that is the piece.
Tensor piece_of(const ModelContext& context, const Tensor& tokens, int piece);

// This rank's tokens of a piece of a whole tensor. A layer that writes them there spares the
// exchange a copy.
Tensor own_part(const ModelContext& context, const Tensor& whole, int piece);

// Where all tokens of a tensor are once it is gathered: `buffer`, or `local` itself when that holds
// them all.
const Tensor& gathered_place(const ModelContext& context, const Tensor& local,
                             const Tensor& buffer);

// Tokens of all tensor ranks on their way here.
class TokenGather {
public:
    // whole: [tokens, C], a gathered_place: without sequence parallelism it holds all tokens
    // already.
    TokenGather(const ModelContext& context, const Tensor& whole, const char* label)
        : context_(&context), whole_(whole), label_(label) {}

    // local: this rank's tokens of the piece; may be its own part of whole.
    void start(int piece, const Tensor& local);
    void start_all(const Tensor& local);  // [local tokens, C]
    // Compute waits. Returns the piece, or all of them.
    Tensor wait(int piece);
    Tensor wait_all();

private:
    const ModelContext* context_;
    Tensor whole_;
    const char* label_;
    std::array<Event, kMostPieces> arrived_{};
};

// Sums over the tensor ranks under way.
class TokenReduction {
public:
    // partial: [tokens, C], overwritten.
    TokenReduction(const ModelContext& context, const Tensor& partial, const char* label)
        : context_(context), partial_(partial), label_(label) {}

    // The piece of `partial` is complete on this rank.
    void start(int piece) { start(piece, own_part(context_, partial_, piece)); }
    // The same; with sequence parallelism the sum arrives in `local`.
    void start(int piece, const Tensor& local);
    // Compute waits. Returns this rank's tokens of the sum, where start() had no other place.
    Tensor wait(int piece);

private:
    const ModelContext& context_;
    Tensor partial_;
    const char* label_;
    std::array<Event, kMostPieces> arrived_{};
};

}  // namespace trireme
