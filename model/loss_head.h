#pragma once

#include <functional>
#include <vector>

#include "core/arena.h"
#include "model/branch.h"
#include "model/norm.h"
#include "model/normed_tokens.h"
#include "model/parameter_store.h"

namespace trireme {

// Final norm, output projection and cross entropy over a vocabulary that is split over the tensor
// ranks. Logits are never gathered and exist only for a chunk of tokens at a time: since the
// weight of each token in the loss is known beforehand, the forward pass turns a chunk's logits
// into their gradient at once and multiplies it on, so nothing of vocabulary size outlives it.
class LossHead {
public:
    struct Activations {
        Norm::Statistics norm;
        Tensor normed;    // [local tokens, C]
        Tensor gradient;  // [local tokens, C] of the normed hidden state
    };
    // Is shown the logits [n, V local] of n of this rank's tokens, from first_row on, as the device
    // will have made them; they are overwritten behind it.
    using LogitSink = std::function<void(int64_t first_row, const Tensor& logits)>;

    // What becomes of one micro-batch's logits. Refers to what must outlive it.
    struct Loss {
        const Tensor& labels;          // [tokens] i32, < 0 does not count
        float scale;                   // weight of a token in the loss that gradients are of
        const Tensor& total;           // f64 scalar, to which the sum of the token losses is added
        const Tensor& tokens;          // [tokens] f32, is given the loss of each; may be absent
        const LogitSink& take_logits;  // may be empty
    };

    // tied: index of the token embedding in this store when the head shares it, or -1.
    LossHead(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
             int tied);

    Activations take_activations(Arena& arena) const;
    void take_scratch(Arena& arena);

    // The final norm, for whoever makes x to make as well. Its gather is started by forward.
    NormedTokens normed_tokens(const Activations& saved) const;
    // normed: of normed_tokens, made from the hidden state. In training also computes the gradients
    // and adds the projection's weight gradient.
    void forward(const MicroBatchContext& micro_batch, NormedTokens& normed, const Loss& loss,
                 const Activations& saved) const;
    // dx = gradient of x, [local tokens, C].
    void backward(const Tensor& x, const Activations& saved, const Tensor& dx) const;
    // Logits of one token of the micro-batch on this tensor rank: [1, V local] f32, padding rows
    // included. For generation.
    void logits_of_token(const Tensor& x, int64_t token, const Activations& saved,
                         const Tensor& logits) const;

    // The only one of which forward makes a ParameterUse; backward needs the norm alone.
    int weight_parameter() const { return weight_; }
    void collect_parameters(std::vector<int>& indices) const;

private:
    // Buffers that live for one call.
    struct Scratch {
        Tensor logits;   // [chunk, V local] f32
        Tensor dlogits;  // [chunk, V local] compute type; the logits themselves in f32
        Tensor row_max;  // [chunk] f32
        Tensor sums;     // [2, chunk] f32
        Tensor losses;   // [tokens] f32
    };

    int64_t chunk_tokens() const;

    const ModelContext& context_;
    ParameterStore& store_;
    const ChunkBuffers& buffers_;
    Norm norm_;
    bool owns_weight_;
    int weight_;
    Scratch scratch_;
};

}  // namespace trireme
