#pragma once

#include <memory>

#include "data/batch_loader.h"
#include "model/engine.h"

namespace trireme {

// The micro-batches of a run or an evaluation in their order, for any rank of the mesh. Dropout is
// drawn by sample number, so ranks that read no data are told the numbers as well.
class MicroBatchFeed {
public:
    // source: null on a rank that reads no data; otherwise it outlives this. The rest is as for
    // BatchLoader.
    MicroBatchFeed(const SampleSource* source, const LoaderOptions& options,
                   int64_t consumed_samples);

    // Valid until the next call.
    HostMicroBatch next();

private:
    const LoaderOptions options_;
    const int64_t consumed_samples_;
    int64_t n_given_ = 0;
    std::unique_ptr<BatchLoader> loader_;  // null without a source
};

}  // namespace trireme
