#include "data/split.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/blend.h"

namespace trireme {
namespace {

constexpr size_t kParts = 3;

std::optional<double> parse_weight(std::string_view word) {
    while (word.starts_with(' ')) word.remove_prefix(1);
    while (word.ends_with(' ')) word.remove_suffix(1);
    double weight = 0.0;
    const char* const end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, weight, std::chars_format::fixed);
    if (error != std::errc() || stop != end) return std::nullopt;
    return weight;
}

// As many as there are parts; none where one cannot be read.
std::vector<double> parse_weights(std::string_view text) {
    std::vector<double> weights;
    for (size_t begin = 0; begin <= text.size();) {
        const size_t end = std::min(text.find_first_of(",/", begin), text.size());
        const std::optional<double> weight = parse_weight(text.substr(begin, end - begin));
        if (!weight || weights.size() == kParts) return {};
        weights.push_back(*weight);
        begin = end + 1;
    }
    weights.resize(kParts, 0.0);
    return weights;
}

// Without what does not change the parts: "90, 5, 0" is "90,5".
std::string text_of(std::span<const double> weights) {
    while (weights.back() == 0) weights = weights.first(weights.size() - 1);
    std::string text;
    for (const double weight : weights) {
        char number[512];
        const auto [end, error] =
            std::to_chars(number, number + sizeof number, weight, std::chars_format::fixed);
        TRIREME_CHECK(error == std::errc(), "room for a number");
        text += (text.empty() ? "" : ",") + std::string(number, end);
    }
    return text;
}

}  // namespace

SequenceRange sequences_of(const DatasetShare& share, int64_t n_sequences,
                           const std::string& name) {
    const auto total = static_cast<double>(n_sequences);
    // nearbyint rounds halves to even, as Python's round does.
    const SequenceRange range{static_cast<int64_t>(std::nearbyint(share.begin * total)),
                              static_cast<int64_t>(std::nearbyint(share.end * total))};
    if (n_sequences > 0 && range.begin == range.end) {
        throw Error(ExitCode::bad_data,
                    "dataset " + name + ": the part of data.split from " +
                        std::to_string(share.begin) + " to " + std::to_string(share.end) +
                        " holds none of its " + std::to_string(n_sequences) +
                        " sequences, expected at least one; give the part a larger weight, or a "
                        "dataset of its own in data.valid (a file without an index is one "
                        "sequence)");
    }
    return range;
}

DatasetSplit parse_split(const std::string& text) {
    const std::vector<double> given = parse_weights(text);
    std::vector<double> weights;
    try {
        weights = normalize_weights(given);
    } catch (const Error&) {
        throw Error(ExitCode::config,
                    "expected one to three weights of zero or more, not all zero, as in 969,30,1");
    }
    std::array<std::optional<DatasetShare>, kParts> shares;
    double begin = 0.0;
    for (size_t i = 0; i < kParts; ++i) {
        const double end = begin + weights[i];
        if (end > begin) shares[i] = DatasetShare{begin, end};
        begin = end;
    }
    return {.text = text_of(given), .train = shares[0], .valid = shares[1], .test = shares[2]};
}

}  // namespace trireme
