#include "data/batch_loader.h"

#include <algorithm>

#include "core/error.h"
#include "core/service_thread.h"
#include "data/document_borders.h"

namespace trireme {
namespace {

constexpr int kMaxAhead = 8;

}  // namespace

BatchLoader::BatchLoader(const SampleSource& source, const LoaderOptions& options,
                         int64_t consumed_samples)
    : source_(source), options_(options), consumed_samples_(consumed_samples) {
    TRIREME_CHECK(options.micro_batch > 0 && options.sequence_length == source.sequence_length(),
                  "micro-batches of the source's sequence length");
    TRIREME_CHECK(options.shard >= 0 && options.shard < options.n_shards, "a shard of the group");
    TRIREME_CHECK(!options.counts_tokens || options.wrap, "tokens of a step with all its samples");
    TRIREME_CHECK(consumed_samples >= 0 && source.size() > 0, "samples to read");
    const size_t n_tokens =
        static_cast<size_t>(options.micro_batch) * static_cast<size_t>(options.sequence_length);
    // One more than is read ahead: the caller holds it.
    ring_.resize(static_cast<size_t>(std::clamp(options.micro_batches, 2, kMaxAhead)) + 1);
    for (MicroBatch& batch : ring_) {
        batch.tokens.resize(n_tokens);
        batch.labels.resize(n_tokens);
        if (options.keep_documents_apart) batch.document_begin.resize(n_tokens);
    }
    if (options.keep_documents_apart) begins_.resize(static_cast<size_t>(options.sequence_length));
    thread_ = start_service_thread("batch loader", [this] { run(); });
}

BatchLoader::~BatchLoader() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

const MicroBatch& BatchLoader::next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return n_filled_ > n_taken_ || error_ != nullptr; });
    if (n_filled_ == n_taken_) std::rethrow_exception(error_);
    const MicroBatch& batch = ring_[static_cast<size_t>(n_taken_) % ring_.size()];
    ++n_taken_;
    lock.unlock();
    changed_.notify_all();
    return batch;
}

void BatchLoader::run() {
    const auto n_slots = static_cast<int64_t>(ring_.size());
    for (int64_t number = 0;; ++number) {
        {
            // The slot of the micro-batch that the caller holds, number n_taken_ - 1, stays.
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] {
                return stop_ || number < std::max<int64_t>(n_taken_ - 1, 0) + n_slots;
            });
            if (stop_) return;
        }
        std::exception_ptr error;
        bool filled = false;
        try {
            filled = fill(ring_[static_cast<size_t>(number % n_slots)], number);
        } catch (...) {
            error = std::current_exception();
        }
        {
            const std::lock_guard lock(mutex_);
            if (filled) ++n_filled_;
            error_ = error;
        }
        changed_.notify_all();
        if (!filled) return;
    }
}

bool BatchLoader::is_stopped() {
    const std::lock_guard lock(mutex_);
    return stop_;
}

bool BatchLoader::fill(MicroBatch& batch, int64_t number) {
    const int64_t n_rows = options_.micro_batch;
    const auto length = static_cast<size_t>(options_.sequence_length);
    if (number % options_.micro_batches == 0) n_begins_ = 0;
    batch.first_sample = options_.first_sample(number, consumed_samples_);
    for (int64_t row = 0; row < n_rows; ++row) {
        if (is_stopped()) return false;
        const size_t at = static_cast<size_t>(row) * length;
        const std::span<int32_t> tokens = std::span(batch.tokens).subspan(at, length);
        const std::span<int32_t> labels = std::span(batch.labels).subspan(at, length);
        const int64_t sample = batch.first_sample + row;
        if (options_.wrap || sample < source_.size()) {
            source_.read(sample % source_.size(), tokens, labels);
            if (options_.keep_documents_apart) {
                n_begins_ += separate_documents(source_, sample % source_.size(), labels,
                                                std::span(batch.document_begin).subspan(at, length),
                                                begins_);
            }
        } else {
            if (options_.keep_documents_apart) {
                std::fill_n(batch.document_begin.begin() + static_cast<int64_t>(at), length, 0);
            }
            std::fill(tokens.begin(), tokens.end(), 0);
            std::fill(labels.begin(), labels.end(), kIgnoredLabel);
        }
    }
    batch.counted_tokens.reset();
    if (!options_.counts_tokens || !options_.keep_documents_apart) return true;
    if (!search_other_shards(number)) return false;
    if ((number + 1) % options_.micro_batches == 0) {
        batch.counted_tokens =
            n_rows * options_.n_shards * options_.micro_batches * options_.sequence_length -
            n_begins_;
    }
    return true;
}

bool BatchLoader::search_other_shards(int64_t number) {
    const int64_t n_rows = options_.micro_batch;
    const int64_t own = options_.first_sample(number, consumed_samples_);
    const int64_t first = own - options_.shard * n_rows;
    for (int64_t sample = first; sample < first + options_.n_shards * n_rows; ++sample) {
        if (sample >= own && sample < own + n_rows) continue;
        if (is_stopped()) return false;
        n_begins_ += source_.document_begins(sample % source_.size(), begins_);
    }
    return true;
}

}  // namespace trireme
