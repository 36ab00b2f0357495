#include "data/gpt_dataset.h"

#include <algorithm>

#include "core/error.h"
#include "data/dataset_manifest.h"
#include "data/label_shift.h"

namespace trireme {
namespace {

SampleOrder order_of(const IndexedDataset& dataset, const GptDatasetOptions& options,
                     SequenceRange range) {
    TRIREME_CHECK(options.n_samples > 0 && options.vocab_size > 0,
                  "a positive number of samples and a vocabulary");
    TRIREME_CHECK(
        range.begin >= 0 && range.begin <= range.end && range.end <= dataset.n_sequences(),
        "a range inside the dataset");
    const auto lengths = dataset.lengths().subspan(static_cast<size_t>(range.begin),
                                                   static_cast<size_t>(range.end - range.begin));
    try {
        return make_sample_order(lengths, range.begin, options.sequence_length, options.n_samples,
                                 options.seed);
    } catch (const Error& error) {
        throw Error(error.code(), "dataset " + dataset.prefix() + ": " + error.what());
    }
}

void check_shape(const SampleSource& source, int64_t index, std::span<const int32_t> tokens,
                 std::span<const int32_t> labels) {
    TRIREME_CHECK(index >= 0 && index < source.size(), "a sample index inside the dataset");
    TRIREME_CHECK(static_cast<int64_t>(tokens.size()) == source.sequence_length() &&
                      labels.size() == tokens.size(),
                  "room for sequence_length tokens and labels");
}

}  // namespace

GptDataset::GptDataset(const std::string& prefix, const GptDatasetOptions& options,
                       std::optional<SequenceRange> range)
    : dataset_(prefix),
      options_(options),
      order_(
          order_of(dataset_, options, range.value_or(SequenceRange{0, dataset_.n_sequences()}))) {
    check_vocabulary(prefix, options.vocab_size);
}

template <typename Visit>
void GptDataset::for_runs(int64_t index, const Visit& visit) const {
    const size_t sample = order_.shuffle[static_cast<size_t>(index)];
    const SamplePosition begin = order_.positions[sample];
    const SamplePosition last = order_.positions[sample + 1];  // its token is still part
    int64_t at = 0;
    for (int64_t document = begin.document; document <= last.document; ++document) {
        const int64_t sequence = order_.documents[static_cast<size_t>(document)];
        const int64_t from = document == begin.document ? begin.offset : 0;
        const int64_t to = document == last.document
                               ? int64_t{last.offset} + 1
                               : dataset_.lengths()[static_cast<size_t>(sequence)];
        visit(dataset_.start(sequence) + from, to - from, at);
        at += to - from;
    }
    TRIREME_CHECK(at == options_.sequence_length + 1, "a sample of sequence_length + 1 tokens");
}

void GptDataset::read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const {
    check_shape(*this, index, tokens, labels);
    for_runs(index, [&](int64_t position, int64_t count, int64_t at) {
        read_shifted(dataset_, position, count, at, tokens, labels, options_.vocab_size);
    });
}

int64_t GptDataset::document_begins(int64_t index, std::span<int32_t> begins) const {
    check_shape(*this, index, begins, begins);
    int64_t n = 0;
    for_runs(index, [&](int64_t, int64_t count, int64_t at) {
        // What a sample begins with may be the middle of a document, but is its first in any case.
        if (at > 0 && count > 0) begins[static_cast<size_t>(n++)] = static_cast<int32_t>(at);
    });
    return n;
}

BlendedDataset::BlendedDataset(std::vector<std::unique_ptr<SampleSource>> parts,
                               std::span<const double> weights, int64_t size)
    : parts_(std::move(parts)) {
    TRIREME_CHECK(!parts_.empty() && parts_.size() == weights.size(), "one weight a dataset");
    order_ = make_blend_order(normalize_weights(weights), size);
    std::vector<int64_t> taken(parts_.size(), 0);
    for (const int16_t part : order_.dataset_index) ++taken[static_cast<size_t>(part)];
    for (size_t i = 0; i < parts_.size(); ++i) {
        TRIREME_CHECK(parts_[i]->sequence_length() == sequence_length(),
                      "parts of equal sequence length");
        if (taken[i] > parts_[i]->size()) {
            throw Error(ExitCode::config,
                        "part " + std::to_string(i) + " of the blend has " +
                            std::to_string(parts_[i]->size()) + " samples, but its weight takes " +
                            std::to_string(taken[i]) + "; lower its weight or add data");
        }
    }
}

void BlendedDataset::read(int64_t index, std::span<int32_t> tokens,
                          std::span<int32_t> labels) const {
    check_shape(*this, index, tokens, labels);
    const auto n = static_cast<size_t>(index);
    parts_[static_cast<size_t>(order_.dataset_index[n])]->read(order_.sample_index[n], tokens,
                                                               labels);
}

int64_t BlendedDataset::document_begins(int64_t index, std::span<int32_t> begins) const {
    check_shape(*this, index, begins, begins);
    const auto n = static_cast<size_t>(index);
    return parts_[static_cast<size_t>(order_.dataset_index[n])]->document_begins(
        order_.sample_index[n], begins);
}

std::unique_ptr<SampleSource> make_dataset(std::span<const DataSourceOptions> sources,
                                           const GptDatasetOptions& options) {
    if (sources.empty()) {
        throw Error(ExitCode::config, "no dataset given, expected at least one path in 'data'");
    }
    if (sources.size() == 1) return std::make_unique<GptDataset>(sources[0].path, options);

    std::vector<double> weights;
    for (const DataSourceOptions& source : sources) weights.push_back(source.weight);
    weights = normalize_weights(weights);
    const BlendSizes sizes = make_blend_sizes(weights, options.n_samples);
    std::vector<std::unique_ptr<SampleSource>> parts;
    for (size_t i = 0; i < sources.size(); ++i) {
        GptDatasetOptions part = options;
        // A source of weight zero still has to be a dataset; the blend takes nothing from it.
        part.n_samples = std::max<int64_t>(sizes.requests[i], 1);
        parts.push_back(std::make_unique<GptDataset>(sources[i].path, part));
    }
    return std::make_unique<BlendedDataset>(std::move(parts), weights, sizes.total);
}

}  // namespace trireme
