#pragma once

#include <array>
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

// Gradients sharded over the data axis through the whole step (ZeRO-2; Rajbhandari et al. 2020).
// A bucket's gradients of one micro-batch are added up in a staging buffer, which is taken and
// zeroed by open(); close() reduce-scatters it behind the compute that follows, and the received
// part is added to the accumulated shard when the buffer is needed again. What the whole buckets
// hold is added to the chunk's gradients directly and summed once a step, and so is over replicas
// what is sharded among a part of the data axis only (hybrid sharding).
//
// Every member of the groups makes the same calls in the same order. Nothing is allocated after
// construction. Not thread-safe.
class GradientSharder {
public:
    // chunks: layouts by unit, of as many shards as groups.shard has members; of the gradients this
    // rank's own shard alone, [layout->shard_elements()], zero when a step begins. Their memory,
    // device and groups must outlive this. options.overlap false: close() waits.
    // options.gradient_wire as for GradientReducer, except that what is summed once a step travels
    // in f32.
    GradientSharder(Device& device, const GradientGroups& groups,
                    const std::vector<ChunkGradients>& chunks, const DataParallelOptions& options);

    void begin_step();
    // Makes the staging buffer of a chunk's bucket ready to be added to; does nothing when it is
    // open already.
    void open(int chunk, int bucket);
    // Where an open bucket's gradients are added up: [size of the bucket] f32.
    const Tensor& staging(int chunk, int bucket) const;
    // All that adds to the open bucket has been enqueued. Does nothing when it is closed already.
    void close(int chunk, int bucket);
    // Everything reduced is added, then what tensor ranks share is summed over theirs, the shards
    // over replicas and the whole buckets over data. Makes compute wait for all of it.
    void finish();

    // The buckets of a chunk in which this rank's own gradients of the step were not finite before
    // any sum. Blocks.
    std::vector<int> not_finite(int chunk) const;

    const Arena& arena() const { return *arena_; }

private:
    struct Bucket {
        int64_t size = 0;
        Tensor accumulated;  // this rank's shard
        bool is_outsize = false;
        int place = 0;    // in the probe
        int buffer = -1;  // of the open bucket
    };
    struct Buffer {
        Tensor memory;         // [largest bucket it serves] f32
        Tensor wire;           // the same in bf16, absent where gradients travel in f32
        Tensor whole;          // of the bucket that has it: [size]
        bool is_open = false;  // being added to
        bool is_sent = false;  // `received` is on its way
        Tensor received;       // the reduced shard
        Tensor accumulated;    // where it is to be added
        Event done;
    };
    // Buffers that are taken in turn.
    struct Ring {
        int first = 0;
        int count = 0;
        int next = 0;
    };

    Bucket& bucket_of(int chunk, int bucket) {
        return buckets_[static_cast<size_t>(chunk)][static_cast<size_t>(bucket)];
    }
    void add_chunk(const ChunkGradients& chunk);
    void take_buffers(Arena& arena, bool with_wire);
    void settle(Buffer& buffer);

    Device& device_;
    const GradientGroups groups_;
    bool overlap_;
    std::vector<std::vector<Bucket>> buckets_;  // of each chunk, as in its layout
    std::vector<Buffer> buffers_;
    std::array<Ring, 2> rings_;      // for the buckets of layers, and for outsize ones
    std::vector<Tensor> partial_;    // shards of what is to be summed over tensor
    std::vector<Tensor> kv_;         // over tensor_kv
    std::vector<Tensor> wholes_;     // whole buckets
    std::vector<int> whole_places_;  // of each in the probe
    std::vector<Tensor> shards_;     // of each chunk: all that is sharded

    std::optional<Arena> arena_;
    Tensor scratch_;
    int n_places_ = 0;
    std::optional<FiniteProbe> probe_;
};

}  // namespace trireme
