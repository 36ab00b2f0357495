#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/blend.h"
#include "data/data_options.h"
#include "data/sample_order.h"
#include "data/sample_source.h"
#include "data/split.h"
#include "data/token_source.h"

namespace trireme {

struct GptDatasetOptions {
    int64_t sequence_length = 0;   // tokens in a sample, T
    int64_t n_samples = 0;         // that the run will take; epochs repeat until there are so many
    uint64_t seed = 0;             // of the order; its low 32 bits count
    int64_t vocab_size = 0;        // ids on disk must be below
    DatasetShare share = {};       // of each dataset's sequences
    std::string index_cache = {};  // folder for large orders that processes share; empty: none
};

// Samples of one dataset in Megatron's shuffled order. The order depends on n_samples: a run of
// another length sees another order.
class GptDataset final : public SampleSource {
public:
    // Error(bad_data), Error(config) as from open_tokens, sequences_of and make_sample_order.
    GptDataset(const DataSourceOptions& source, const GptDatasetOptions& options);

    int64_t size() const override { return order_.n_samples(); }
    int64_t sequence_length() const override { return options_.sequence_length; }
    std::string order_text() const override;
    void read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const override;
    int64_t document_begins(int64_t index, std::span<int32_t> begins) const override;

    const SampleOrder& order() const { return order_; }

private:
    // Calls visit(position in the dataset, count, at) for each run of tokens that makes up entries
    // [at, at + count) of the sample's T + 1, in order.
    template <typename Visit>
    void for_runs(int64_t index, const Visit& visit) const;
    [[noreturn]] void fail_order(int64_t sample) const;

    std::unique_ptr<TokenSource> corpus_;
    GptDatasetOptions options_;
    SampleOrder order_;
};

// Samples of several datasets, interleaved by weight.
class BlendedDataset final : public SampleSource {
public:
    // Error(config) when a part has fewer samples than the blend takes from it.
    BlendedDataset(std::vector<std::unique_ptr<SampleSource>> parts, BlendOrder order);

    int64_t size() const override { return order_.size(); }
    int64_t sequence_length() const override { return parts_[0]->sequence_length(); }
    std::string order_text() const override;
    void read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const override;
    int64_t document_begins(int64_t index, std::span<int32_t> begins) const override;

    const BlendOrder& order() const { return order_; }

private:
    std::vector<std::unique_ptr<SampleSource>> parts_;
    BlendOrder order_;
};

// The samples of a run: one source in its own order (its weight does not matter), several as a
// blend; by the weights of the sources, from the first phase on by those of the phases. size() is
// at least options.n_samples. Error(config) when `sources` is empty.
std::unique_ptr<SampleSource> make_dataset(std::span<const DataSourceOptions> sources,
                                           const GptDatasetOptions& options,
                                           std::span<const BlendPhase> phases = {});

}  // namespace trireme
