#include "app/micro_batch_feed.h"

namespace trireme {

MicroBatchFeed::MicroBatchFeed(const SampleSource* source, const LoaderOptions& options,
                               int64_t consumed_samples)
    : options_(options), consumed_samples_(consumed_samples) {
    if (source) loader_ = std::make_unique<BatchLoader>(*source, options, consumed_samples);
}

HostMicroBatch MicroBatchFeed::next() {
    const int64_t number = n_given_++;
    if (!loader_) {
        return {.tokens = {},
                .labels = {},
                .first_sample = options_.first_sample(number, consumed_samples_)};
    }
    const MicroBatch& batch = loader_->next();
    return {batch.tokens, batch.labels, batch.first_sample, batch.document_begin,
            batch.counted_tokens};
}

}  // namespace trireme
