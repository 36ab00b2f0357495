#pragma once

#include "core/arena.h"
#include "model/model_context.h"

namespace trireme {

// Attention where the ranks of the context axis share out a micro-batch's tokens
// (DeepSpeed-Ulysses, Jacobs et al. 2023). Everywhere else a rank has its tokens of all heads; for
// attention it swaps them, in one all-to-all, for all tokens of its part of the heads, and swaps
// the result back. So attention itself is that of one rank, whatever the mask, and every rank has
// the same work.
//
// Buffers that live for one call, which a chunk's layers share; absent on a context axis of one.
struct HeadExchange {
    Tensor column;        // [tokens, column width] as the column-parallel layer writes it
    Tensor parts;         // [context ranks, tokens, widest part] on the way to or from the others
    Tensor heads;         // [B * T, part of the heads * D] gradient of attention's output
    Tensor heads_column;  // [B * T, part of the column width] gradient of attention's input; column
                          // lies in it, for forward and backward need one each

    static HeadExchange take(const ModelContext& context, Arena& arena);

    // rows [tokens, width] -> all [B * T, part width]; compute waits for the others' parts.
    void to_heads(const ModelContext& context, const HeadParts& how, const Tensor& rows,
                  const Tensor& all, const char* label) const;
    // The way back. Of heads that several ranks attend with, their sum.
    void to_tokens(const ModelContext& context, const HeadParts& how, const Tensor& all,
                   const Tensor& rows, const char* label) const;

private:
    Tensor parts_of(const HeadParts& how) const;  // as much of `parts` as these rows need
};

}  // namespace trireme
