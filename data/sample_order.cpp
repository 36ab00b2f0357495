#include "data/sample_order.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/numpy_random.h"

namespace trireme {
namespace {

constexpr int64_t kExtraToken = 1;  // the label of the last token

struct Epochs {
    int64_t count = 1;
    bool separate_last = false;
    int64_t n_samples = 0;              // in all epochs
    int64_t n_samples_before_last = 0;  // meaningful when the last one is separate
};

struct Arrays {
    std::vector<int32_t> documents;
    std::vector<SamplePosition> positions;
    std::vector<uint32_t> shuffle;
};

Epochs plan_epochs(int64_t n_tokens, int64_t sequence_length, int64_t n_samples) {
    int64_t needed = 0;
    int64_t available = 0;
    Epochs epochs;
    bool overflow = __builtin_mul_overflow(n_samples, sequence_length, &needed) ||
                    __builtin_add_overflow(needed, kExtraToken, &needed);
    if (!overflow) {
        epochs.count = std::max<int64_t>(1, needed / n_tokens + (needed % n_tokens != 0 ? 1 : 0));
        overflow = __builtin_mul_overflow(epochs.count, n_tokens, &available);
    }
    if (overflow) {
        throw Error(ExitCode::config, std::to_string(n_samples) + " samples of " +
                                          std::to_string(sequence_length) +
                                          " tokens are more than can be counted; ask for fewer "
                                          "steps or a smaller batch");
    }
    epochs.n_samples = (available - kExtraToken) / sequence_length;
    if (epochs.count == 1) return epochs;

    epochs.n_samples_before_last = ((epochs.count - 1) * n_tokens - kExtraToken) / sequence_length;
    const int64_t n_in_last = n_samples - epochs.n_samples_before_last;
    const int64_t n_per_epoch = (n_tokens - kExtraToken) / sequence_length;
    TRIREME_CHECK(n_in_last >= 0 && n_in_last <= n_per_epoch + 1,
                  "the last epoch to hold what the others lack");
    epochs.separate_last =
        n_in_last < static_cast<int64_t>(0.80 * static_cast<double>(n_per_epoch));
    return epochs;
}

void append_shuffled_documents(std::vector<int32_t>& documents, int64_t n_epochs,
                               int64_t first_sequence, int64_t n_sequences,
                               NumpyRandomState& random) {
    const size_t begin = documents.size();
    documents.resize(begin + static_cast<size_t>(n_epochs * n_sequences));
    auto out = documents.begin() + static_cast<std::ptrdiff_t>(begin);
    for (int64_t epoch = 0; epoch < n_epochs; ++epoch, out += n_sequences) {
        std::iota(out, out + n_sequences, static_cast<int32_t>(first_sequence));
    }
    random.shuffle(std::span(documents).subspan(begin));
}

std::vector<SamplePosition> make_positions(std::span<const int32_t> lengths, int64_t first_sequence,
                                           std::span<const int32_t> documents,
                                           int64_t sequence_length, int64_t n_samples) {
    std::vector<SamplePosition> positions;
    positions.reserve(static_cast<size_t>(n_samples) + 1);
    SamplePosition at;
    positions.push_back(at);
    for (int64_t sample = 0; sample < n_samples; ++sample) {
        int64_t missing = sequence_length + kExtraToken;
        for (;;) {
            const int64_t length = lengths[static_cast<size_t>(
                documents[static_cast<size_t>(at.document)] - first_sequence)];
            missing -= length - at.offset;
            if (missing <= 0) {
                at.offset = static_cast<int32_t>(length + missing - kExtraToken);
                break;
            }
            ++at.document;
            at.offset = 0;
        }
        positions.push_back(at);
    }
    return positions;
}

void append_shuffled_range(std::vector<uint32_t>& shuffle, int64_t end, NumpyRandomState& random) {
    const size_t begin = shuffle.size();
    shuffle.resize(static_cast<size_t>(end));
    const std::span<uint32_t> part = std::span(shuffle).subspan(begin);
    std::iota(part.begin(), part.end(), static_cast<uint32_t>(begin));
    random.shuffle(part);
}

}  // namespace

int64_t sample_order_bytes(int64_t n_sequences, int64_t n_tokens, int64_t sequence_length,
                           int64_t n_samples) {
    const Epochs epochs = plan_epochs(std::max<int64_t>(n_tokens, 1), sequence_length, n_samples);
    const double bytes =
        static_cast<double>(epochs.count) * static_cast<double>(n_sequences) * sizeof(int32_t) +
        static_cast<double>(epochs.n_samples) * (sizeof(SamplePosition) + sizeof(uint32_t));
    return static_cast<int64_t>(std::min(bytes, 1e18));
}

SampleOrder make_sample_order(std::span<const int32_t> lengths, int64_t first_sequence,
                              int64_t sequence_length, int64_t n_samples, uint64_t seed) {
    TRIREME_CHECK(sequence_length > 0 && n_samples >= 0, "a positive sequence length");
    const int64_t n_tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    if (n_tokens == 0) throw Error(ExitCode::bad_data, "the part of the dataset holds no token");
    const auto n_sequences = static_cast<int64_t>(lengths.size());
    const Epochs epochs = plan_epochs(n_tokens, sequence_length, n_samples);

    constexpr int64_t kMaxDocuments = std::numeric_limits<int32_t>::max();
    if (epochs.count > kMaxDocuments / n_sequences ||
        first_sequence > kMaxDocuments - n_sequences ||
        epochs.n_samples >= int64_t{std::numeric_limits<uint32_t>::max()} - 1) {
        throw Error(ExitCode::config,
                    std::to_string(epochs.count) + " epochs of " + std::to_string(n_sequences) +
                        " sequences give " + std::to_string(epochs.n_samples) +
                        " samples, more than the sample index can hold; ask for fewer steps or "
                        "give the dataset in parts");
    }

    const auto arrays = std::make_shared<Arrays>();
    NumpyRandomState random(static_cast<uint32_t>(seed));
    const int64_t n_first = epochs.separate_last ? epochs.count - 1 : epochs.count;
    arrays->documents.reserve(static_cast<size_t>(epochs.count * n_sequences));
    append_shuffled_documents(arrays->documents, n_first, first_sequence, n_sequences, random);
    if (epochs.separate_last) {
        append_shuffled_documents(arrays->documents, 1, first_sequence, n_sequences, random);
    }
    arrays->positions = make_positions(lengths, first_sequence, arrays->documents, sequence_length,
                                       epochs.n_samples);
    arrays->shuffle.reserve(static_cast<size_t>(epochs.n_samples));
    if (epochs.separate_last) {
        append_shuffled_range(arrays->shuffle, epochs.n_samples_before_last, random);
    }
    append_shuffled_range(arrays->shuffle, epochs.n_samples, random);
    return {.n_epochs = epochs.count,
            .separate_last_epoch = epochs.separate_last,
            .documents = arrays->documents,
            .positions = arrays->positions,
            .shuffle = arrays->shuffle,
            .storage = arrays};
}

}  // namespace trireme
