#pragma once

#include <string>
#include <vector>

#include "core/arena.h"
#include "model/parameter_store.h"

namespace trireme {

// The family's normalisation: LayerNorm (gpt2) or RMSNorm (llama), on this rank's tokens.
class Norm {
public:
    // What one application keeps for its backward.
    struct Statistics {
        Tensor mean;  // [N] f32, LayerNorm only
        Tensor rstd;  // [N] f32

        // Of the rows of one of the context's pieces.
        Statistics of_piece(const ModelContext& context, int piece) const;
    };

    Norm(const ModelContext& context, ParameterStore& store, const std::string& name);

    Statistics take_statistics(Arena& arena) const;
    void forward(const Tensor& x, const Tensor& y, const Statistics& statistics) const;  // [N, C]
    // The same of the sum that the residual add makes, in one pass.
    void forward(const ResidualAdd& add, const Tensor& y, const Statistics& statistics) const;
    // dx += gradient; the parameters' gradients are added too.
    void backward(const Tensor& dy, const Tensor& x, const Statistics& statistics,
                  const Tensor& dx) const;
    void collect_parameters(std::vector<int>& indices) const;

private:
    bool is_layer_norm() const { return context_.model.family == Family::gpt2; }

    const ModelContext& context_;
    ParameterStore& store_;
    int weight_;
    int bias_ = -1;
};

}  // namespace trireme
