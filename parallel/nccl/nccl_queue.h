#pragma once

#include <nccl.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "core/cuda/cuda_stream.h"
#include "parallel/activity.h"
#include "parallel/nccl/nccl_run.h"
#include "parallel/operation.h"

namespace trireme {

struct NcclGroup {
    std::string name;
    std::vector<int> world_ranks;  // of the members, in group order
    int rank = 0;                  // of this one

    int size() const { return static_cast<int>(world_ranks.size()); }
    std::string describe() const;  // "group 'data' (ranks 0, 2)"
};

// One NCCL communicator and the stream that all its operations run on, in the order of issue: NCCL
// would serialise the operations of one communicator on several streams as well, but an operation
// that waits for compute would then hold up those on other streams.
class NcclQueue final : public EventSource {
public:
    NcclQueue(NcclRun& run, const NcclGroup& group, CudaStream::Priority priority);
    // Waits for the operations under way. While an exception passes it aborts them.
    ~NcclQueue() override;
    NcclQueue(const NcclQueue&) = delete;
    NcclQueue& operator=(const NcclQueue&) = delete;

    // Makes the communicator; all members of the group do, and wait for one another. `id`: the
    // same for all.
    void open(const ncclUniqueId& id);
    // Performs a first operation, which makes NCCL connect the ranks that take part, and waits.
    void connect(const Operation& operation);

    // after: null where the operation need not wait for compute.
    Event issue(Stream* after, const Operation& operation);

    void register_memory(const Tensor& memory);
    // Before memory is freed. Waits for the operations under way where any of it is registered.
    void forget_memory(const void* begin, size_t bytes);

    void host_wait(uint64_t ticket) override;
    bool done(uint64_t ticket) override;
    void* native_event(uint64_t ticket) override;

    std::string describe_group() const { return group_.describe(); }
    // What a call that NCCL refused means.
    Error failure(ncclResult_t result, const char* call) const;
    bool is_busy();
    // Waits until the stream has nothing to do, failures included.
    void drain() const;

    // For NcclRun, which holds its mutex.
    std::optional<Error> find_trouble(std::chrono::steady_clock::time_point now);
    void abort();

private:
    using Clock = std::chrono::steady_clock;
    struct Pending {
        Operation operation;
        cudaEvent_t ready = nullptr;  // compute, and the operations before, are done
        cudaEvent_t done = nullptr;
    };
    struct Registration {
        const char* begin = nullptr;
        size_t bytes = 0;
        void* handle = nullptr;
    };

    ncclResult_t start(const Operation& operation);
    ncclResult_t start_all_to_all(const Operation& operation);
    cudaEvent_t spare_event();
    // With the run's mutex held.
    Pending& pending(uint64_t ticket) { return log_[static_cast<size_t>(ticket) % log_.size()]; }
    bool has_pending() const { return finished_ < issued_; }
    void append(const Pending& next);
    void advance();
    std::string describe(const Pending& pending, uint64_t ticket) const;

    NcclRun& run_;
    const NcclGroup& group_;
    ActivityBoard& board_;
    ActivityGroup* const activity_;
    CudaStream stream_;
    ncclComm_t comm_ = nullptr;
    std::vector<Registration> registrations_;
    uint64_t connecting_operations_ = 0;
    std::vector<cudaEvent_t> events_;  // all there are

    // Guarded by the run's mutex.
    std::vector<Pending> log_;  // of ticket t: t % size; holds tickets finished_ + 1 to issued_
    std::vector<cudaEvent_t> spare_events_;
    uint64_t issued_ = 0;
    uint64_t finished_ = 0;
    uint64_t waiting_ticket_ = 0;  // the operation that waits for other ranks ...
    Clock::time_point waiting_since_{};
    std::optional<ActivityBoard::Wait> wait_;  // ... as the board shows it
    std::optional<Clock::time_point> failed_since_;
};

}  // namespace trireme
