#pragma once

#include <optional>
#include <vector>

#include "core/arena.h"
#include "core/device.h"
#include "parallel/communicator.h"
#include "parallel/finite_probe.h"
#include "parallel/flat_layout.h"
#include "parallel/gradient_groups.h"
#include "parallel/parallel_options.h"

namespace trireme {

// Adds one chunk's gradients over the ranks that hold the same parameters, bucket by bucket while
// the last micro-batch's backward still runs. Sums, never averages: the loss carries the scale.
//
// Every member of the data and tensor groups must report readiness in the same order, which holds
// because all run the same program for the same pipeline stage. Buckets start in the order in
// which they become complete, so collectives are issued in the same order everywhere.
//
// Nothing is allocated after construction. Not thread-safe.
class GradientReducer {
public:
    // options.zero 0: afterwards every member holds the whole sum. 1: each holds the sum in its own
    // part of each bucket (layout.shard_of(bucket, shard.rank())); the rest keeps this rank's own,
    // the small ones that tensor ranks share summed over those.
    // options.overlap false: everything starts in finish().
    // options.gradient_wire bf16: each member's gradients are rounded before they are sent over the
    // data axis, and the sums once more on the way back.
    // chunk.gradients: [layout->elements]. Its memory, device and groups must outlive this.
    // Summed over groups.data with zero 0; with zero 1 over groups.shard, and over the replicas in
    // finish().
    GradientReducer(Device& device, const GradientGroups& groups, const ChunkGradients& chunk,
                    const DataParallelOptions& options);

    // Before the first call of each step.
    void begin_step();
    // The gradient is final for this step on this rank: all that adds to it has been enqueued.
    // At most once a parameter and step.
    void parameter_ready(int index);
    // Lets the bucket of an own_bucket parameter start; other parameters need no release.
    void release(int index);
    // Starts what has not started yet, ready or not, then makes the compute stream wait for all.
    void finish();

    // The buckets in which this rank's own gradients of the step, before any sum, were not finite;
    // empty where gradients are summed with nobody's. After finish(), before the gradients change.
    // Blocks.
    std::vector<int> not_finite();

    const Arena& arena() const { return *arena_; }

private:
    struct Bucket {
        Tensor whole;                 // [size] of the gradients
        Tensor shard;                 // this rank's part of it
        Tensor wire, wire_shard;      // the same in bf16, absent where gradients travel in f32
        std::vector<Tensor> partial;  // gradients to be summed over tensor
        std::vector<Tensor> kv;       // over tensor_kv
        // Of this rank's own gradients, what the sums take the place of, and what they leave.
        std::vector<Tensor> overwritten, kept;
        int n_waits = 0;  // its parameters, and the release of own_bucket ones
        int waits_left = 0;
        bool started = false;
        Event done;
    };

    Bucket& bucket_of(int parameter) {
        return buckets_[static_cast<size_t>(bucket_index_[static_cast<size_t>(parameter)])];
    }
    int number_of(const Bucket& bucket) const {
        return static_cast<int>(&bucket - buckets_.data());
    }
    void tell_kept_from_overwritten(Bucket& bucket) const;
    void count_down(Bucket& bucket);
    void start(Bucket& bucket);
    void sum_shared(const std::vector<Tensor>& parts, Communicator& group, const char* label);

    Device& device_;
    Communicator& data_;
    Communicator& tensor_;
    Communicator& tensor_kv_;
    Communicator* replicas_;
    bool reduce_scatter_;
    bool overlap_;
    std::vector<Bucket> buckets_;  // as in the layout
    // For each parameter:
    std::vector<int> bucket_index_;
    std::vector<char> is_ready_;
    std::vector<char> is_held_;  // waits for its release
    std::vector<char> own_bucket_;

    std::optional<Arena> arena_;
    Tensor scratch_;  // [most elements that a bucket coalesces] f32
    std::optional<FiniteProbe> probe_;
};

}  // namespace trireme
