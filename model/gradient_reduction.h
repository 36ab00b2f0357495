#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/arena.h"
#include "model/model.h"
#include "parallel/gradient_reducer.h"
#include "parallel/gradient_sharder.h"
#include "parallel/parallel_options.h"

namespace trireme {

// Sums the gradients of a model's chunks over the ranks that share them: when they become final, by
// a reducer for each chunk (ZeRO-0 and 1), or all through the step, by a sharder (ZeRO-2 and 3).
class GradientReduction {
public:
    // options.zero: the stage that takes effect. The chunks' gradients have been allocated. Context
    // and model must outlive this.
    GradientReduction(const ModelContext& context, Model& model,
                      const DataParallelOptions& options);

    void begin_step();
    // Each chunk's, to be told of gradients as they become final; empty where they are summed all
    // through the step.
    std::span<GradientReducer* const> reducers() const { return reducer_views_; }
    // After the step's passes: makes compute wait for all sums. sum_tied, which may be empty, sums
    // the two halves of a tied embedding: before the data ranks' parts of it are, or after where
    // those are summed all the time.
    void finish(const std::function<void()>& sum_tied);

    // The buckets of a chunk in which this rank's own gradients of the step were not finite before
    // any sum. Blocks.
    std::vector<int> not_finite(size_t chunk);

    std::vector<const Arena*> arenas() const;

private:
    std::vector<std::unique_ptr<GradientReducer>> reducers_;
    std::vector<GradientReducer*> reducer_views_;
    std::unique_ptr<GradientSharder> sharder_;  // instead
};

}  // namespace trireme
