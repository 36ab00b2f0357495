#include "data/gpt_dataset.h"

#include <algorithm>

#include "core/error.h"
#include "data/fingerprint.h"
#include "data/label_shift.h"
#include "data/shared_order.h"

namespace trireme {
namespace {

SampleOrder order_of(const TokenSource& source, const DataSourceOptions& files,
                     const GptDatasetOptions& options) {
    TRIREME_CHECK(options.n_samples > 0 && options.vocab_size > 0,
                  "a positive number of samples and a vocabulary");
    const SequenceRange range = sequences_of(options.share, source.n_sequences(), source.name());
    const auto make = [&] {
        const std::vector<int32_t> lengths = source.read_lengths();
        const auto in_range = std::span(lengths).subspan(
            static_cast<size_t>(range.begin), static_cast<size_t>(range.end - range.begin));
        return make_sample_order(in_range, range.begin, options.sequence_length, options.n_samples,
                                 options.seed);
    };
    try {
        if (options.index_cache.empty()) return make();
        const std::string key = dataset_fingerprint(files) + "; sequences " +
                                std::to_string(range.begin) + " to " + std::to_string(range.end) +
                                ", length " + std::to_string(options.sequence_length) +
                                ", samples " + std::to_string(options.n_samples) + ", seed " +
                                std::to_string(static_cast<uint32_t>(options.seed));
        const int64_t n_tokens = source.border(range.end) - source.border(range.begin);
        const int64_t bytes = sample_order_bytes(range.end - range.begin, n_tokens,
                                                 options.sequence_length, options.n_samples);
        return shared_sample_order(options.index_cache, key, bytes, make);
    } catch (const Error& error) {
        throw error.retold("dataset " + source.name() + ": " + error.what());
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

GptDataset::GptDataset(const DataSourceOptions& source, const GptDatasetOptions& options)
    : corpus_(open_tokens(source, options.vocab_size)),
      options_(options),
      order_(order_of(*corpus_, source, options)) {}

std::string GptDataset::order_text() const {
    return "seed " + std::to_string(static_cast<uint32_t>(options_.seed)) + ", " +
           std::to_string(order_.n_epochs) + (order_.n_epochs == 1 ? " epoch" : " epochs") +
           (order_.separate_last_epoch ? " with the last shuffled apart" : "");
}

template <typename Visit>
void GptDataset::for_runs(int64_t index, const Visit& visit) const {
    const auto sample = static_cast<int64_t>(order_.shuffle[static_cast<size_t>(index)]);
    if (sample >= size()) fail_order(sample);
    const SamplePosition begin = order_.positions[static_cast<size_t>(sample)];
    const SamplePosition last = order_.positions[static_cast<size_t>(sample) + 1];  // still part
    if (begin.document < 0 || last.document >= std::ssize(order_.documents)) fail_order(sample);
    int64_t at = 0;
    for (int64_t document = begin.document; document <= last.document; ++document) {
        const int64_t sequence = order_.documents[static_cast<size_t>(document)];
        if (sequence < 0 || sequence >= corpus_->n_sequences()) fail_order(sample);
        const int64_t length = corpus_->length(sequence);
        const int64_t from = document == begin.document ? begin.offset : 0;
        const int64_t to = document == last.document ? int64_t{last.offset} + 1 : length;
        const int64_t room = options_.sequence_length + 1 - at;
        const int64_t count = to - from;
        if (from < 0 || count < 0 || to > length || count > room) fail_order(sample);
        const int64_t first = corpus_->start(sequence) + from;
        if (first > corpus_->n_tokens() - count) fail_order(sample);
        visit(first, count, at);
        at += count;
    }
    if (at != options_.sequence_length + 1) fail_order(sample);
}

// An order of our own making is right; one from a cache, and the index that it was made of, may
// have been changed.
void GptDataset::fail_order(int64_t sample) const {
    throw Error(ExitCode::bad_data,
                "dataset " + corpus_->name() + ": sample " + std::to_string(sample) +
                    " lies outside of it: the dataset has changed while in use, or the file in "
                    "data.index_cache is damaged; remove that folder");
}

void GptDataset::read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const {
    check_shape(*this, index, tokens, labels);
    for_runs(index, [&](int64_t position, int64_t count, int64_t at) {
        read_shifted(*corpus_, position, count, at, tokens, labels, options_.vocab_size);
    });
}

int64_t GptDataset::document_begins(int64_t index, std::span<int32_t> begins) const {
    check_shape(*this, index, begins, begins);
    int64_t n = 0;
    for_runs(index, [&](int64_t position, int64_t count, int64_t at) {
        // What a sample begins with may be the middle of a document, but is its first in any case.
        if (at > 0 && count > 0) begins[static_cast<size_t>(n++)] = static_cast<int32_t>(at);
        const auto inner = begins.subspan(static_cast<size_t>(n));
        const int64_t more = corpus_->inner_documents(position, count, inner);
        for (int32_t& begin : inner.first(static_cast<size_t>(more))) {
            begin += static_cast<int32_t>(at);
        }
        n += more;
    });
    return n;
}

BlendedDataset::BlendedDataset(std::vector<std::unique_ptr<SampleSource>> parts, BlendOrder order)
    : parts_(std::move(parts)), order_(std::move(order)) {
    TRIREME_CHECK(!parts_.empty() && parts_.size() == order_.taken().size(), "a part a dataset");
    for (size_t i = 0; i < parts_.size(); ++i) {
        TRIREME_CHECK(parts_[i]->sequence_length() == sequence_length(),
                      "parts of equal sequence length");
        const int64_t taken = order_.taken()[i];
        if (taken > parts_[i]->size()) {
            throw Error(ExitCode::config,
                        "part " + std::to_string(i) + " of the blend has " +
                            std::to_string(parts_[i]->size()) + " samples, but its weight takes " +
                            std::to_string(taken) + "; lower its weight or add data");
        }
    }
}

std::string BlendedDataset::order_text() const {
    std::string text;
    for (const auto& part : parts_) text += (text.empty() ? "" : "; ") + part->order_text();
    return text;
}

void BlendedDataset::read(int64_t index, std::span<int32_t> tokens,
                          std::span<int32_t> labels) const {
    check_shape(*this, index, tokens, labels);
    parts_[order_.dataset_of(index)]->read(order_.sample_of(index), tokens, labels);
}

int64_t BlendedDataset::document_begins(int64_t index, std::span<int32_t> begins) const {
    check_shape(*this, index, begins, begins);
    return parts_[order_.dataset_of(index)]->document_begins(order_.sample_of(index), begins);
}

namespace {

// requests: samples that each source must have.
std::unique_ptr<SampleSource> blend_of(std::span<const DataSourceOptions> sources,
                                       const GptDatasetOptions& options,
                                       const std::vector<int64_t>& requests, BlendOrder order) {
    std::vector<std::unique_ptr<SampleSource>> parts;
    for (size_t i = 0; i < sources.size(); ++i) {
        GptDatasetOptions part = options;
        // A source of weight zero still has to be a dataset; the blend takes nothing from it.
        part.n_samples = std::max<int64_t>(requests[i], 1);
        parts.push_back(std::make_unique<GptDataset>(sources[i], part));
    }
    return std::make_unique<BlendedDataset>(std::move(parts), std::move(order));
}

}  // namespace

std::unique_ptr<SampleSource> make_dataset(std::span<const DataSourceOptions> sources,
                                           const GptDatasetOptions& options,
                                           std::span<const BlendPhase> phases) {
    if (sources.empty()) {
        throw Error(ExitCode::config, "no dataset given, expected at least one path in 'data'");
    }
    if (sources.size() == 1) return std::make_unique<GptDataset>(sources[0], options);

    std::vector<double> weights;
    for (const DataSourceOptions& source : sources) weights.push_back(source.weight);
    if (!phases.empty()) {
        std::vector<BlendPhase> all(phases.begin(), phases.end());
        if (all[0].first_sample > 0) all.insert(all.begin(), {0, weights});
        BlendOrder order = make_blend_order(all, options.n_samples);
        const std::vector<int64_t> requests = order.taken();
        return blend_of(sources, options, requests, std::move(order));
    }
    weights = normalize_weights(weights);
    const BlendSizes sizes = make_blend_sizes(weights, options.n_samples);
    // Normalized twice, as Megatron does: the last bit may differ.
    return blend_of(sources, options, sizes.requests,
                    make_blend_order(normalize_weights(weights), sizes.total));
}

}  // namespace trireme
