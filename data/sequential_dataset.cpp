#include "data/sequential_dataset.h"

#include <algorithm>

#include "core/error.h"
#include "data/label_shift.h"
#include "data/token_source.h"

namespace trireme {
namespace {

class SequentialDataset final : public SampleSource {
public:
    SequentialDataset(const DataSourceOptions& source, int64_t sequence_length, int64_t vocab_size,
                      const DatasetShare& share)
        : corpus_(open_tokens(source, vocab_size)),
          sequence_length_(sequence_length),
          vocab_size_(vocab_size) {
        TRIREME_CHECK(sequence_length > 0 && vocab_size > 0, "a positive sequence length");
        const SequenceRange range = sequences_of(share, corpus_->n_sequences(), corpus_->name());
        first_token_ = corpus_->border(range.begin);
        end_token_ = corpus_->border(range.end);
        if (end_token_ - first_token_ < 2) {
            throw Error(ExitCode::bad_data,
                        "dataset " + corpus_->name() + " holds " +
                            std::to_string(end_token_ - first_token_) +
                            " tokens in the part that is evaluated, expected at least two to "
                            "predict one");
        }
    }

    int64_t size() const override {
        return (end_token_ - first_token_ - 2) / sequence_length_ + 1;  // ceil of labels / length
    }
    int64_t sequence_length() const override { return sequence_length_; }

    void read(int64_t index, std::span<int32_t> tokens, std::span<int32_t> labels) const override {
        TRIREME_CHECK(index >= 0 && index < size(), "a window inside the dataset");
        TRIREME_CHECK(static_cast<int64_t>(tokens.size()) == sequence_length_ &&
                          labels.size() == tokens.size(),
                      "room for sequence_length tokens and labels");
        const int64_t begin = first_token_ + index * sequence_length_;
        const int64_t count = std::min(sequence_length_ + 1, end_token_ - begin);
        read_shifted(*corpus_, begin, count, 0, tokens, labels, vocab_size_);
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
        const int64_t begin = first_token_ + index * sequence_length_;
        const int64_t end = std::min(begin + sequence_length_ + 1, end_token_);
        int64_t next = first_sequence_after(begin);
        int64_t n = 0;
        const auto add_run = [&](int64_t from, int64_t to) {
            if (from == to) return;
            const auto offset = static_cast<int32_t>(from - begin);
            if (offset > 0) begins[static_cast<size_t>(n++)] = offset;
            const auto inner = begins.subspan(static_cast<size_t>(n));
            const int64_t more = corpus_->inner_documents(from, to - from, inner);
            for (int32_t& inside : inner.first(static_cast<size_t>(more))) inside += offset;
            n += more;
        };
        int64_t from = begin;
        for (; next < corpus_->n_sequences() && corpus_->start(next) < end; ++next) {
            add_run(from, corpus_->start(next));
            from = corpus_->start(next);
        }
        add_run(from, end);
        return n;
    }

private:
    // n_sequences where there is none.
    int64_t first_sequence_after(int64_t token) const {
        int64_t low = 0, high = corpus_->n_sequences();
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (corpus_->start(middle) <= token) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    std::unique_ptr<TokenSource> corpus_;
    int64_t sequence_length_;
    int64_t vocab_size_;
    int64_t first_token_ = 0;
    int64_t end_token_ = 0;
};

}  // namespace

std::unique_ptr<SampleSource> make_sequential_dataset(const DataSourceOptions& source,
                                                      int64_t sequence_length, int64_t vocab_size,
                                                      const DatasetShare& share) {
    return std::make_unique<SequentialDataset>(source, sequence_length, vocab_size, share);
}

}  // namespace trireme
