#include "data/describe.h"

#include <algorithm>
#include <vector>

#include "data/indexed_dataset.h"

namespace trireme {

DatasetSummary describe_dataset(const std::string& prefix) {
    const IndexedDataset dataset(prefix);
    const auto lengths = dataset.lengths();
    const auto [shortest, longest] = std::minmax_element(lengths.begin(), lengths.end());
    DatasetSummary summary;
    summary.prefix = prefix;
    summary.token_type = name_of(dataset.token_type());
    summary.sequences = dataset.n_sequences();
    summary.documents = dataset.n_documents();
    summary.tokens = dataset.n_tokens();
    summary.bytes = dataset.n_tokens() * size_of(dataset.token_type());
    summary.shortest_sequence = *shortest;
    summary.longest_sequence = *longest;
    return summary;
}

int64_t verify_dataset(const std::string& prefix, int64_t vocab_size,
                       const std::function<void(int64_t done, int64_t total)>& progress) {
    const IndexedDataset dataset(prefix);
    const int64_t total = dataset.n_tokens();
    std::vector<int32_t> chunk(size_t{1} << 20);
    int32_t largest = 0;
    for (int64_t done = 0; done < total;) {
        const int64_t n = std::min(total - done, static_cast<int64_t>(chunk.size()));
        const auto tokens = std::span(chunk).first(static_cast<size_t>(n));
        dataset.read(done, tokens, vocab_size > 0 ? vocab_size : kAnyVocab);
        largest = std::max(largest, *std::max_element(tokens.begin(), tokens.end()));
        done += n;
        if (progress) progress(done, total);
    }
    return largest;
}

}  // namespace trireme
