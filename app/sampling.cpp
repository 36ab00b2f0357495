#include "app/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"

namespace trireme {

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                     int64_t position) {
    TRIREME_CHECK(!logits.empty(), "logits to draw from");
    if (std::any_of(logits.begin(), logits.end(), [](float logit) { return std::isnan(logit); })) {
        throw Error(ExitCode::numerics,
                    "the model's output at token " + std::to_string(position) +
                        " is not a number: the checkpoint's parameters are, or have grown too "
                        "large; take an earlier checkpoint");
    }
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    // Ties go to the lower id, so that the order is the same everywhere.
    const auto more_likely = [&](int32_t a, int32_t b) {
        const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
        return x != y ? x > y : a < b;
    };
    size_t kept = order.size();
    if (options.top_k > 0) kept = std::min(kept, static_cast<size_t>(options.top_k));
    if (options.temperature <= 0.0) kept = 1;
    std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept), order.end(),
                      more_likely);
    if (kept == 1) return order[0];

    const double top = static_cast<double>(logits[static_cast<size_t>(order[0])]);
    std::vector<double> weights(kept);
    for (size_t i = 0; i < kept; ++i) {
        const double logit = static_cast<double>(logits[static_cast<size_t>(order[i])]);
        weights[i] = std::exp((logit - top) / options.temperature);
    }
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    const uint32_t word =
        philox_word(make_key(options.seed, "generate"), 0, static_cast<uint64_t>(position));
    double left = total * (static_cast<double>(word) / 4294967296.0);
    for (size_t i = 0; i < kept; ++i) {
        left -= weights[i];
        if (left < 0.0) return order[i];
    }
    return order[kept - 1];
}

}  // namespace trireme
