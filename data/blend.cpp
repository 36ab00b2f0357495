#include "data/blend.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "core/error.h"

namespace trireme {
namespace {

// The order of additions in numpy.sum over float64 (pairwise, eight at a time), which decides the
// last bit of the weights.
double pairwise_sum(std::span<const double> x) {
    if (x.size() < 8) {
        double sum = 0.0;
        for (const double value : x) sum += value;
        return sum;
    }
    if (x.size() > 128) {
        const size_t half = x.size() / 2 - x.size() / 2 % 8;
        return pairwise_sum(x.first(half)) + pairwise_sum(x.subspan(half));
    }
    std::array<double, 8> lanes;
    std::copy_n(x.begin(), 8, lanes.begin());
    size_t i = 8;
    for (; i + 8 <= x.size(); i += 8) {
        for (size_t lane = 0; lane < 8; ++lane) lanes[lane] += x[i + lane];
    }
    double sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
                 ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    for (; i < x.size(); ++i) sum += x[i];
    return sum;
}

}  // namespace

std::vector<double> normalize_weights(std::span<const double> weights) {
    for (size_t i = 0; i < weights.size(); ++i) {
        if (!std::isfinite(weights[i]) || weights[i] < 0.0) {
            throw Error(ExitCode::config, "weight " + std::to_string(i) + " of the blend is " +
                                              std::to_string(weights[i]) +
                                              ", expected a number of 0 or more");
        }
    }
    const double sum = pairwise_sum(weights);
    if (!(sum > 0.0) || !std::isfinite(sum)) {
        throw Error(ExitCode::config, "the weights of the blend add up to " + std::to_string(sum) +
                                          ", expected a positive number");
    }
    std::vector<double> normalized(weights.begin(), weights.end());
    for (double& weight : normalized) weight /= sum;
    return normalized;
}

BlendSizes make_blend_sizes(std::span<const double> normalized_weights, int64_t n_samples) {
    BlendSizes sizes;
    for (const double weight : normalized_weights) {
        const double target = std::ceil(static_cast<double>(n_samples) * weight);
        sizes.targets.push_back(static_cast<int64_t>(target));
        sizes.requests.push_back(static_cast<int64_t>(std::ceil(target * 1.005)));
        sizes.total += sizes.targets.back();
    }
    return sizes;
}

BlendOrder make_blend_order(std::span<const double> normalized_weights, int64_t size) {
    if (normalized_weights.empty() || normalized_weights.size() >= 32767) {
        throw Error(ExitCode::config, "a blend of " + std::to_string(normalized_weights.size()) +
                                          " datasets, expected 1 to 32766");
    }
    BlendOrder order;
    order.dataset_index.reserve(static_cast<size_t>(size));
    order.sample_index.reserve(static_cast<size_t>(size));
    std::vector<int64_t> counts(normalized_weights.size(), 0);
    for (int64_t n = 0; n < size; ++n) {
        const double due = static_cast<double>(std::max<int64_t>(n, 1));
        size_t furthest = 0;
        double largest_lag = normalized_weights[0] * due - static_cast<double>(counts[0]);
        for (size_t i = 1; i < counts.size(); ++i) {
            const double lag = normalized_weights[i] * due - static_cast<double>(counts[i]);
            if (lag > largest_lag) {
                largest_lag = lag;
                furthest = i;
            }
        }
        order.dataset_index.push_back(static_cast<int16_t>(furthest));
        order.sample_index.push_back(counts[furthest]++);
    }
    return order;
}

}  // namespace trireme
