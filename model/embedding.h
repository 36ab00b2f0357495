#pragma once

#include <string>
#include <vector>

#include "core/arena.h"
#include "model/branch.h"
#include "model/parameter_store.h"

namespace trireme {

// Logical name of the token embedding; a tied output head shares it.
inline constexpr const char* kTokenEmbeddingName = "embedding.token.weight";

// Declares this rank's rows of a [vocabulary, hidden] matrix, padded so that every tensor rank
// holds as many.
ParameterSpec vocabulary_matrix(const ModelContext& context, const std::string& name);

// Token embedding, split by vocabulary rows over the tensor ranks, plus learned positions (gpt2)
// and dropout.
class Embedding {
public:
    // tied_apart: the head shares the token embedding, from another chunk.
    Embedding(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
              bool tied_apart);

    // ids: [tokens] i32 on every tensor rank. out: [local tokens, C].
    void forward(const MicroBatchContext& micro_batch, const Tensor& ids, const Tensor& out) const;
    // doutput: [local tokens, C], overwritten.
    void backward(const MicroBatchContext& micro_batch, const Tensor& ids,
                  const Tensor& doutput) const;
    int token_parameter() const { return token_; }
    // Of forward; backward needs no values.
    void list_uses(std::vector<int>& indices) const { collect_parameters(indices); }
    void collect_parameters(std::vector<int>& indices) const;

private:
    // Where the documents of this rank's tokens of a piece begin, or absent: positions count from
    // there.
    Tensor documents_of(const MicroBatchContext& micro_batch, int piece) const;

    const ModelContext& context_;
    ParameterStore& store_;
    const ChunkBuffers& buffers_;
    PhiloxKey key_;
    int token_;
    int position_ = -1;
};

}  // namespace trireme
