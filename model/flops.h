#pragma once

#include <cstdint>

#include "model/model_options.h"

namespace trireme {

// Numbers of weights of the whole model.
struct ParameterCount {
    int64_t total = 0;
    int64_t matmul = 0;  // weights that every token is multiplied with (the head counts, also when
                         // tied; embedding look-ups, norms and biases do not)
};
ParameterCount count_parameters(const ModelOptions& model);

// Model FLOPs of forward and backward for one token of a sequence of this length: 6 per matmul
// weight, and 6 * layers * heads * head_dim * sequence for causal attention, counted half.
// No recomputation counts. See docs/numerics.md.
double flops_per_token(const ModelOptions& model, int64_t sequence);

}  // namespace trireme
