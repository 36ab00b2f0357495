#pragma once

#include "model/model_context.h"

namespace trireme {

// The two conjugate exchanges around a tensor-parallel region (Shoeybi et al. 2019; with sequence
// parallelism Korthikanti et al. 2022). Without sequence parallelism gather is the identity and
// reduce an all-reduce; with it they are all-gather and reduce-scatter along the tokens. The
// backward of each is the other.

// The tokens of all tensor ranks: `whole` after an all-gather of this rank's slice `local`, or
// `local` itself. local may be its own part of whole. Compute waits for the result.
Tensor gather_tokens(const ModelContext& context, const Tensor& local,  // [local tokens, C]
                     const Tensor& whole, const char* label);           // [tokens, C]

// The slice of `whole` in which a layer should write its local tokens, so that gather_tokens need
// not copy.
Tensor local_slice(const ModelContext& context, const Tensor& whole);

// A sum over the tensor ranks under way. wait() makes compute wait for it and returns this
// rank's tokens of the sum.
class TokenReduction {
public:
    // partial: [tokens, C], overwritten. local: [local tokens, C], used with sequence parallelism
    // only; may be this rank's slice of partial.
    TokenReduction(const ModelContext& context, const Tensor& partial, const Tensor& local,
                   const char* label);
    Tensor wait();

private:
    const ModelContext& context_;
    Tensor result_;
    Event event_;
};

}  // namespace trireme
