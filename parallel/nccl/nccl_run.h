#pragma once

#include <nccl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/cuda/cuda_device.h"
#include "core/error.h"
#include "parallel/communicator.h"

namespace trireme {

class NcclQueue;

// What the NCCL communicators of one rank share: the first error, and a thread that looks for one.
//
// NCCL's kernels wait for other ranks without end, calls into NCCL wait as well while they connect
// ranks, and a host far enough ahead of a GPU that stands still waits inside the driver. So it is
// not the rank's own thread that looks, but one in the background: for communicators that failed,
// operations that have waited for other ranks longer than the timeout, and calls that do not
// return. It keeps the error and aborts all communicators; their kernels then end, and with them
// all waits, which throw the error. A rank that hangs in a call even then is ended with its run.
class NcclRun {
public:
    NcclRun(World& control, CudaDevice& device, std::chrono::milliseconds timeout);
    ~NcclRun();
    NcclRun(const NcclRun&) = delete;
    NcclRun& operator=(const NcclRun&) = delete;

    std::chrono::milliseconds timeout() const { return timeout_; }
    // How long a failure that another rank may have caused is kept back, for that rank to tell.
    std::chrono::milliseconds grace() const;
    // A few bytes of device memory, for operations whose result does not matter.
    void* small_memory() const { return small_memory_; }

    // Makes a call into NCCL on behalf of a queue. Throws when it fails, or anything has before.
    // `what`, of static lifetime, names the call. The rank's thread.
    template <typename Call>
    void call(const NcclQueue& queue, const char* what, const Call& into_nccl) {
        const std::lock_guard inside(inside_nccl_);
        begin_call(queue, what);
        end_call(queue, what, into_nccl());
    }

    // What a failed run makes of every wait and call.
    void throw_if_failed();
    bool has_failed() const { return failed_.load(std::memory_order_acquire); }
    // Keeps the first error given.
    void fail(const Error& error);
    // Ends the communication of a rank that itself fails, as far as it has not ended: aborts all
    // communicators.
    void give_up();

    // Before memory is freed: its registration is forgotten, and where the rank fails, operations
    // that may use it are ended.
    void release(const void* memory, size_t bytes);
    // Whether an exception passes that had not been thrown when the run began.
    bool unwinding() const;

    Error hang(const std::string& waited_for) const;

    ActivityBoard& activity() const { return control_.activity(); }

    // Guards the queues' logs of operations.
    std::mutex& mutex() { return mutex_; }
    void add(NcclQueue& queue);
    void remove(NcclQueue& queue);

private:
    using Clock = std::chrono::steady_clock;

    void begin_call(const NcclQueue& queue, const char* what);
    void end_call(const NcclQueue& queue, const char* what, ncclResult_t result);
    void keep(const Error& error);  // with mutex_ held
    void abort_queues();            // with inside_nccl_ held
    void watch();
    std::optional<Error> find_trouble();
    void end_kernels();

    World& control_;
    CudaDevice& device_;
    const std::chrono::milliseconds timeout_;
    const int exceptions_at_start_;
    void* small_memory_ = nullptr;

    std::mutex inside_nccl_;                 // held during calls into NCCL; taken before mutex_
    std::atomic<Clock::rep> call_since_{0};  // 0: no call is under way
    std::atomic<const NcclQueue*> call_queue_{nullptr};
    std::atomic<const char*> call_what_{""};

    std::mutex mutex_;  // guards the following, and the queues' logs
    std::vector<NcclQueue*> queues_;
    std::optional<Error> error_;  // never changed once failed_ is set
    bool aborted_ = false;        // all communicators are
    bool run_ended_ = false;      // because they could not be
    bool stops_ = false;
    std::condition_variable stop_;
    std::atomic<bool> failed_{false};

    std::thread watcher_;
};

}  // namespace trireme
