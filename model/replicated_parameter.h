#pragma once

#include <array>
#include <string>

#include "model/model_context.h"
#include "parallel/parameter.h"

namespace trireme {

// What each of the tensor ranks that hold a parameter sums its gradient over.
enum class GradientPart {
    all,     // the same as the others: nothing is left to sum over them
    tokens,  // its own tokens, under sequence parallelism; otherwise as all
    heads,   // its own heads
};

// A parameter that every tensor rank holds whole; the first of them owns it.
ParameterSpec replicated_matrix(const ModelContext& context, const std::string& name,
                                const std::array<int64_t, 2>& global, GradientPart part);
ParameterSpec replicated_vector(const ModelContext& context, const std::string& name, int64_t size,
                                GradientPart part);

}  // namespace trireme
