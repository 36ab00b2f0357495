#include "data/sequential_dataset.h"

#include <algorithm>
#include <ranges>

#include "core/error.h"
#include "data/dataset_manifest.h"
#include "data/indexed_dataset.h"
#include "data/label_shift.h"

namespace trireme {
namespace {

class SequentialDataset final : public SampleSource {
public:
    SequentialDataset(const std::string& prefix, int64_t sequence_length, int64_t vocab_size)
        : dataset_(prefix), sequence_length_(sequence_length), vocab_size_(vocab_size) {
        TRIREME_CHECK(sequence_length > 0 && vocab_size > 0, "a positive sequence length");
        check_vocabulary(prefix, vocab_size);
        if (dataset_.n_tokens() < 2) {
            throw Error(ExitCode::bad_data,
                        "dataset " + prefix + " holds one token, expected at least two to predict");
        }
    }

    int64_t size() const override {
        return (dataset_.n_tokens() - 2) / sequence_length_ + 1;  // ceil of labels / length
    }
    int64_t sequence_length() const override { return sequence_length_; }

    void read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const override {
        TRIREME_CHECK(index >= 0 && index < size(), "a window inside the dataset");
        TRIREME_CHECK(static_cast<int64_t>(tokens.size()) == sequence_length_ &&
                          labels.size() == tokens.size(),
                      "room for sequence_length tokens and labels");
        const int64_t begin = index * sequence_length_;
        const int64_t count = std::min(sequence_length_ + 1, dataset_.n_tokens() - begin);
        read_shifted(dataset_, begin, count, 0, tokens, labels, vocab_size_);
        if (count <= sequence_length_) {
            // The last token of all is only a label, not a place to predict from.
            std::fill(tokens.begin() + count - 1, tokens.end(), 0);
            std::fill(labels.begin() + count - 1, labels.end(), kIgnoredLabel);
        }
    }

    int64_t document_begins(int64_t index, std::span<int32_t> begins) const override {
        TRIREME_CHECK(index >= 0 && index < size(), "a window inside the dataset");
        TRIREME_CHECK(static_cast<int64_t>(begins.size()) == sequence_length_,
                      "room for sequence_length tokens");
        const int64_t begin = index * sequence_length_;
        const int64_t end = std::min(begin + sequence_length_ + 1, dataset_.n_tokens());
        const auto sequences = std::views::iota(int64_t{0}, dataset_.n_sequences());
        auto at = std::ranges::partition_point(
            sequences, [&](int64_t sequence) { return dataset_.start(sequence) <= begin; });
        int64_t n = 0;
        for (; at != sequences.end() && dataset_.start(*at) < end; ++at) {
            if (dataset_.lengths()[static_cast<size_t>(*at)] == 0) continue;
            begins[static_cast<size_t>(n++)] = static_cast<int32_t>(dataset_.start(*at) - begin);
        }
        return n;
    }

private:
    IndexedDataset dataset_;
    int64_t sequence_length_;
    int64_t vocab_size_;
};

}  // namespace

std::unique_ptr<SampleSource> make_sequential_dataset(const std::string& prefix,
                                                      int64_t sequence_length, int64_t vocab_size) {
    return std::make_unique<SequentialDataset>(prefix, sequence_length, vocab_size);
}

}  // namespace trireme
