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

BlendOrder::BlendOrder(size_t n_datasets)
    : taken_(n_datasets, 0), interval_(std::max<int64_t>(4096, 64 * std::ssize(taken_))) {
    if (n_datasets == 0 || n_datasets >= 32767) {
        throw Error(ExitCode::config,
                    "a blend of " + std::to_string(n_datasets) + " datasets, expected 1 to 32766");
    }
}

void BlendOrder::append(std::span<const double> weights, int64_t count) {
    TRIREME_CHECK(weights.size() == taken_.size(), "one weight a dataset");
    // Those without a weight never come, not even where all lags are zero.
    const auto positive =
        std::find_if(weights.begin(), weights.end(), [](double w) { return w > 0; });
    TRIREME_CHECK(positive != weights.end(), "a weight above zero");
    const auto first = static_cast<size_t>(positive - weights.begin());
    datasets_.reserve(static_cast<size_t>(size() + count));
    std::vector<int64_t> counts(taken_.size(), 0);  // in this phase
    for (int64_t n = 0; n < count; ++n) {
        if (size() % interval_ == 0) marks_.insert(marks_.end(), taken_.begin(), taken_.end());
        const double due = static_cast<double>(std::max<int64_t>(n, 1));
        size_t furthest = first;
        double largest_lag = weights[first] * due - static_cast<double>(counts[first]);
        for (size_t i = first + 1; i < counts.size(); ++i) {
            if (weights[i] == 0.0) continue;
            const double lag = weights[i] * due - static_cast<double>(counts[i]);
            if (lag > largest_lag) {
                largest_lag = lag;
                furthest = i;
            }
        }
        datasets_.push_back(static_cast<int16_t>(furthest));
        ++counts[furthest];
        ++taken_[furthest];
    }
}

int64_t BlendOrder::sample_of(int64_t n) const {
    const int64_t mark = n / interval_;
    const auto begin = datasets_.begin();
    return marks_[static_cast<size_t>(mark) * taken_.size() + dataset_of(n)] +
           std::count(begin + mark * interval_, begin + n, datasets_[static_cast<size_t>(n)]);
}

BlendOrder make_blend_order(std::span<const double> normalized_weights, int64_t size) {
    BlendOrder order(normalized_weights.size());
    order.append(normalized_weights, size);
    return order;
}

BlendOrder make_blend_order(std::span<const BlendPhase> phases, int64_t size) {
    TRIREME_CHECK(!phases.empty() && phases[0].first_sample == 0, "a phase from sample 0 on");
    BlendOrder order(phases[0].weights.size());
    for (size_t i = 0; i < phases.size(); ++i) {
        const int64_t end = i + 1 < phases.size() ? phases[i + 1].first_sample : size;
        order.append(normalize_weights(phases[i].weights), std::min(end, size) - order.size());
    }
    return order;
}

}  // namespace trireme
