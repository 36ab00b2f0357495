#pragma once

#include <cstdint>
#include <vector>

#include "model/model_options.h"

namespace trireme {

// Angles in radians by which each position turns the pairs of a head: [head_dim / 2], falling.
std::vector<double> rope_frequencies(const ModelOptions& model);

// Cosines and sines of the first `positions` positions as Ops wants them: [positions, 2, D / 2].
// Angles are computed in double, since those of late positions are large.
std::vector<float> make_rope_table(const ModelOptions& model, int64_t positions);

}  // namespace trireme
