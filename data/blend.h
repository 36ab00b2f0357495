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

// Which sample of which dataset each sample of a blend is. Each dataset's are taken in its own
// order, none twice, also from one phase to the next. Takes little more than 2 bytes a sample.
class BlendOrder {
public:
    explicit BlendOrder(size_t n_datasets);

    // Goes on with `count` samples by these weights, one a dataset. The next sample always comes
    // from the dataset that is furthest behind its weight in this phase, the first of equals.
    void append(std::span<const double> normalized_weights, int64_t count);

    int64_t size() const { return static_cast<int64_t>(datasets_.size()); }
    size_t dataset_of(int64_t n) const {
        return static_cast<size_t>(datasets_[static_cast<size_t>(n)]);
    }
    int64_t sample_of(int64_t n) const;
    // How many samples each dataset gives.
    const std::vector<int64_t>& taken() const { return taken_; }

private:
    std::vector<int64_t> taken_;
    std::vector<int16_t> datasets_;
    // taken_ as it was before every interval_ samples, one behind the other: sample_of counts on
    // from there.
    int64_t interval_;
    std::vector<int64_t> marks_;
};

// One phase. At most 32766 datasets, Error(config) otherwise.
BlendOrder make_blend_order(std::span<const double> normalized_weights, int64_t size);

// Samples of a blend from `first_sample` on, up to the next phase, come by these weights.
struct BlendPhase {
    int64_t first_sample = 0;
    std::vector<double> weights;  // not normalized
};

// The first phase begins at sample 0; a phase that begins behind the end does not count. Error
// (config) as from normalize_weights.
BlendOrder make_blend_order(std::span<const BlendPhase> phases, int64_t size);

}  // namespace trireme
