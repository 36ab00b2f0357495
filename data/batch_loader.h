#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "data/sample_source.h"

namespace trireme {

struct MicroBatch {
    std::vector<int32_t> tokens;  // [B, T]
    std::vector<int32_t> labels;  // [B, T]; below zero: does not count
    int64_t first_sample = 0;     // of this micro-batch, counted from the beginning of the run
    // Only where documents are kept apart: for each token the index within its sequence of the
    // first token of its document.
    std::vector<int32_t> document_begin;  // [B, T]
    // With the last micro-batch of a step, where it is asked for: how many labels of the step
    // count, over all shards. Those that begin the next document do not.
    std::optional<int64_t> counted_tokens;
};

struct LoaderOptions {
    int micro_batch = 1;    // B, sequences
    int micro_batches = 1;  // of one shard in a step; about so many are read ahead
    int shard = 0;          // of the data-parallel group
    int n_shards = 1;
    int sequence_length = 0;  // T
    // Past the source's end: begin again from its first sample, or give samples whose labels do
    // not count (for one pass of evaluation that need not divide by the batch).
    bool wrap = true;
    bool keep_documents_apart = false;
    // For the scale of a training step's loss: whether to count tokens where documents are kept
    // apart. Asks where documents begin in the other shards' samples too; only with wrap.
    bool counts_tokens = false;

    // The first of micro-batch `number` of this shard, after so many samples of all shards.
    int64_t first_sample(int64_t number, int64_t consumed_samples) const {
        return consumed_samples + (number * n_shards + shard) * micro_batch;
    }
};

// Hands out one shard's micro-batches in order, read ahead by a thread. Micro-batch j of the run
// holds the samples consumed + j * (B * n_shards) + shard * B + [0, B), so that a step's samples
// are the same set for every number of shards. Allocates when it is made; then only the source may.
class BatchLoader {
public:
    // Starts reading at once. `source` must outlive the loader. `consumed_samples` of all shards
    // have been taken before: a resumed run goes on exactly there.
    BatchLoader(const SampleSource& source, const LoaderOptions& options, int64_t consumed_samples);
    ~BatchLoader();
    BatchLoader(const BatchLoader&) = delete;
    BatchLoader& operator=(const BatchLoader&) = delete;

    // The next micro-batch, valid until the next call. Waits until it is read. Rethrows what the
    // reading thread met (again on every further call), after the micro-batches before it.
    const MicroBatch& next();

private:
    void run();
    bool is_stopped();
    bool fill(MicroBatch& batch, int64_t number);  // false when asked to stop
    bool search_other_shards(int64_t number);      // the same

    const SampleSource& source_;
    const LoaderOptions options_;
    const int64_t consumed_samples_;
    std::vector<MicroBatch> ring_;
    // The reading thread's:
    std::vector<int32_t> begins_;  // of one sample
    int64_t n_begins_ = 0;         // so far in the step that is being read

    std::mutex mutex_;
    std::condition_variable changed_;
    int64_t n_filled_ = 0;  // micro-batches written to the ring
    int64_t n_taken_ = 0;   // micro-batches returned by next(); the last one is still in use
    bool stop_ = false;
    std::exception_ptr error_;

    std::thread thread_;
};

}  // namespace trireme
