#pragma once

#include "model/norm.h"
#include "model/tensor_parallel.h"

namespace trireme {

// What a branch or the head begins with: the norm of the residual stream on this rank's tokens, and
// all tokens of it on their way here, piece by piece. Whoever makes the residual stream makes this
// from it as well, so that the last add of one part and the norm of the next are one operation.
class NormedTokens {
public:
    enum class Gather {
        at_once,   // of each piece as it is made
        on_start,  // by start()
    };

    // normed: [local tokens, C]. gathered: [tokens, C], where the pieces arrive; absent where a
    // rank holds all tokens. `norm` must outlive this.
    NormedTokens(const ModelContext& context, const Norm& norm, const Tensor& normed,
                 const Norm::Statistics& statistics, const Tensor& gathered, Gather gather,
                 const char* label);

    // From x, [local tokens, C].
    void make(const Tensor& x, int piece);
    void make_all(const Tensor& x);
    // From the sum that the add makes for this rank's tokens of the piece.
    void make(const ResidualAdd& add, int piece);
    void start(int piece);
    // Compute waits. Returns the piece, of all ranks' tokens, or all of them.
    Tensor wait(int piece) { return gather_.wait(piece); }
    Tensor wait_all() { return gather_.wait_all(); }

private:
    Tensor normed_of(int piece) const { return piece_of(*context_, normed_, piece); }

    const ModelContext* context_;
    const Norm* norm_;
    Tensor normed_;
    Norm::Statistics statistics_;
    bool gathers_at_once_;
    TokenGather gather_;
};

}  // namespace trireme
