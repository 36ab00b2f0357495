#include "model/rope_table.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace trireme {

namespace {

double scaled(double frequency, const RopeScaling& scaling) {
    switch (scaling.kind) {
        case RopeScalingKind::none:
            return frequency;
        case RopeScalingKind::linear:
            return frequency / scaling.factor;
        case RopeScalingKind::llama3:
            break;
    }
    // How often the pair turns within the original length decides: slow ones are stretched, fast
    // ones are left, and between the two limits the stretching fades.
    const double turns = scaling.original_max_position * frequency / (2.0 * std::numbers::pi);
    if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
    if (turns > scaling.high_freq_factor) return frequency;
    const double kept =
        (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
    return (1.0 - kept) * frequency / scaling.factor + kept * frequency;
}

}  // namespace

std::vector<double> rope_frequencies(const ModelOptions& model) {
    TRIREME_CHECK(model.head_dim > 0 && model.head_dim % 2 == 0, "an even head size");
    std::vector<double> frequencies;
    for (int i = 0; i < model.head_dim / 2; ++i) {
        const double exponent = -2.0 * i / model.head_dim;
        frequencies.push_back(
            scaled(std::pow(static_cast<double>(model.rope_theta), exponent), model.rope_scaling));
    }
    return frequencies;
}

std::vector<float> make_rope_table(const ModelOptions& model, int64_t positions) {
    const std::vector<double> frequencies = rope_frequencies(model);
    const size_t half = frequencies.size();
    std::vector<float> table(static_cast<size_t>(positions) * 2 * half);
    for (size_t t = 0; t < static_cast<size_t>(positions); ++t) {
        for (size_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(t) * frequencies[i];
            table[2 * t * half + i] = static_cast<float>(std::cos(angle));
            table[(2 * t + 1) * half + i] = static_cast<float>(std::sin(angle));
        }
    }
    return table;
}

}  // namespace trireme
