#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace trireme {

// Where a sample begins: entry of the document order, and token within that sequence.
struct SamplePosition {
    int32_t document = 0;
    int32_t offset = 0;
    bool operator==(const SamplePosition&) const = default;
};

// The order in which Megatron's GPTDataset visits a corpus, number for number. Sample i takes the
// tokens from positions[shuffle[i]] to positions[shuffle[i] + 1] and one more, sequence_length + 1
// in all; the last token of one is the first of the next.
struct SampleOrder {
    int64_t n_epochs = 1;
    bool separate_last_epoch = false;           // the last epoch is shuffled apart, being cut short
    std::span<const int32_t> documents;         // sequences, shuffled, once an epoch
    std::span<const SamplePosition> positions;  // [n_samples + 1]
    std::span<const uint32_t> shuffle;          // [n_samples]
    std::shared_ptr<const void> storage;        // what they lie in

    int64_t n_samples() const { return static_cast<int64_t>(shuffle.size()); }
};

// About the bytes that the order of so many sequences with so many tokens takes.
int64_t sample_order_bytes(int64_t n_sequences, int64_t n_tokens, int64_t sequence_length,
                           int64_t n_samples);

// The order over the sequences [first_sequence, first_sequence + lengths.size()), whose lengths
// (in tokens) are given, so that at least n_samples samples exist. Only the low 32 bits of `seed`
// count. Error(bad_data) when there is no token, Error(config) when the sizes exceed what the
// indices can hold (2^31 - 1 documents over all epochs, 2^32 - 2 samples).
SampleOrder make_sample_order(std::span<const int32_t> lengths, int64_t first_sequence,
                              int64_t sequence_length, int64_t n_samples, uint64_t seed);

}  // namespace trireme
