#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trireme {

// Weights that sum to one, rounded as numpy rounds them. Error(config) on a weight that is
// negative or not finite, or when all are zero.
std::vector<double> normalize_weights(std::span<const double> weights);

// How many samples each dataset of a weighted blend must offer: `targets` add up to the blend's
// size, `requests` keep half a percent in reserve, because the blending order rounds.
struct BlendSizes {
    std::vector<int64_t> targets;
    std::vector<int64_t> requests;
    int64_t total = 0;  // at least the n_samples asked for
};

BlendSizes make_blend_sizes(std::span<const double> normalized_weights, int64_t n_samples);

// Sample n of the blend is sample sample_index[n] of dataset dataset_index[n]. The next sample
// always comes from the dataset that is furthest behind its weight, the first of equals.
struct BlendOrder {
    std::vector<int16_t> dataset_index;
    std::vector<int64_t> sample_index;
};

// At most 32766 datasets, Error(config) otherwise.
BlendOrder make_blend_order(std::span<const double> normalized_weights, int64_t size);

}  // namespace trireme
