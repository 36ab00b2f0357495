#include "data/split.h"

#include <cmath>
#include <vector>

#include "core/error.h"
#include "data/blend.h"

namespace trireme {
namespace {

constexpr const char* kNumberCharacters = ".0123456789";

std::vector<double> parse_shares(const std::string& split) {
    std::vector<double> shares;
    size_t begin = split.find_first_of(kNumberCharacters);
    while (begin != std::string::npos) {
        const size_t end = split.find_first_not_of(kNumberCharacters, begin);
        const std::string word = split.substr(begin, end - begin);
        const bool has_digit = word.find_first_not_of('.') != std::string::npos;
        if (!has_digit || word.find('.') != word.rfind('.')) {
            throw Error(ExitCode::config, "split '" + split + "': '" + word +
                                              "' is not a number; write for example '969,30,1'");
        }
        shares.push_back(std::stod(word));
        begin = split.find_first_of(kNumberCharacters, end);
    }
    if (shares.empty() || shares.size() > 3) {
        throw Error(ExitCode::config, "split '" + split + "' has " + std::to_string(shares.size()) +
                                          " shares, expected one to three, as in '969,30,1'");
    }
    shares.resize(3, 0.0);
    return shares;
}

}  // namespace

std::array<std::optional<SequenceRange>, 3> split_sequences(const std::string& split,
                                                            int64_t n_sequences) {
    const std::vector<double> shares = normalize_weights(parse_shares(split));
    std::array<std::optional<SequenceRange>, 3> ranges;
    const auto total = static_cast<double>(n_sequences);
    double low = 0.0;
    for (size_t i = 0; i < ranges.size(); ++i) {
        const double high = low + shares[i];
        if (high > low) {
            // nearbyint rounds halves to even, as Python's round does.
            ranges[i] = SequenceRange{static_cast<int64_t>(std::nearbyint(low * total)),
                                      static_cast<int64_t>(std::nearbyint(high * total))};
        }
        low = high;
    }
    return ranges;
}

}  // namespace trireme
