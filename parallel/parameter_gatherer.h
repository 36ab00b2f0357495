#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/arena.h"
#include "core/device.h"
#include "parallel/communicator.h"
#include "parallel/flat_layout.h"

namespace trireme {

// The parameters of a chunk of which this rank keeps its own shard only. All references must
// outlive who uses it.
struct ShardedParameters {
    const FlatLayout* layout = nullptr;  // by unit, as many shards as data ranks
    Tensor shards;                       // [layout->shard_elements()]
};

// A bucket of a chunk that is used.
struct BucketUse {
    int chunk = 0;
    int bucket = 0;
    bool operator==(const BucketUse&) const = default;
};

// Parameters sharded over the data axis (ZeRO-3; Rajbhandari et al. 2020): gathers whole buckets
// into staging buffers shortly before they are used. Which bucket is used when is known beforehand
// for a whole pass, so the gathers run ahead of compute across all borders within it, what will be
// needed again soonest stays, and what is still there is not gathered again.
//
// Every member of the data group makes the same calls in the same order. Nothing is allocated after
// construction. Not thread-safe.
class ParameterGatherer {
public:
    // prefetch: so many buckets are gathered, or on their way, ahead of the one in use.
    ParameterGatherer(Device& device, Communicator& data, std::vector<ShardedParameters> chunks,
                      int prefetch);

    // The coming pass acquires these buckets in this order; must outlive the pass. Starts the first
    // gathers.
    void begin(std::span<const BucketUse> uses);
    // Makes compute wait until the bucket is there, and keeps it until it is released.
    void acquire(BucketUse use);
    void release(BucketUse use) noexcept;
    // An acquired bucket: [size].
    const Tensor& whole(BucketUse use) const;
    // Before shards change: waits for all gathers under way and forgets what is there.
    void forget();

    int64_t n_gathers() const { return n_gathers_; }  // ever started
    const Arena& arena() const { return *arena_; }

private:
    static constexpr int kNone = -1;

    struct Bucket {
        int64_t size = 0;
        Tensor shard;
        bool is_outsize = false;
        int buffer = kNone;        // that has it, or will have
        int holders = 0;           // acquired and not released
        uint64_t last_window = 0;  // in which it was counted
    };
    struct Buffer {
        Tensor memory;  // [largest bucket it serves]
        Tensor whole;   // [size of the bucket in it]
        Bucket* bucket = nullptr;
        Event arrival;
        bool is_arriving = false;
    };
    struct Ring {
        int first = 0;
        int count = 0;
    };

    Bucket& bucket_of(BucketUse use) {
        return buckets_[static_cast<size_t>(use.chunk)][static_cast<size_t>(use.bucket)];
    }
    void take_buffers(Arena& arena, int prefetch, DType type);
    void look_ahead();
    bool gather(Bucket& bucket, size_t use);
    int buffer_for(const Bucket& bucket, size_t use);
    size_t next_use(const Bucket& bucket);

    Device& device_;
    Communicator& data_;
    const int prefetch_;
    std::vector<std::vector<Bucket>> buckets_;  // of each chunk, as in its layout
    std::vector<Buffer> buffers_;
    std::array<Ring, 2> rings_;  // for the buckets of layers, and for outsize ones
    std::span<const BucketUse> uses_;
    size_t next_ = 0;  // in uses_
    uint64_t window_ = 0;
    std::optional<Arena> arena_;
    int64_t n_gathers_ = 0;
};

}  // namespace trireme
