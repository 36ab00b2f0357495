#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <vector>

#include "core/stream.h"

namespace trireme {

// A CUDA stream. Not thread-safe: one host thread enqueues.
//
// Events are numbered tickets; the last kEvents of them have a cudaEvent_t each. Waiting for an
// older one waits for a newer point of the same stream, which is later but never wrong.
class CudaStream final : public Stream, public EventSource {
public:
    enum class Priority { normal, high };

    // On the current device.
    explicit CudaStream(Priority priority = Priority::normal);
    ~CudaStream() override;
    CudaStream(const CudaStream&) = delete;
    CudaStream& operator=(const CudaStream&) = delete;

    cudaStream_t handle() const { return stream_; }

    Event record() override;
    void wait(const Event& event) override;
    void copy(void* to, const void* from, size_t bytes) override;
    // Polls instead of blocking in the driver, so that a failure elsewhere can end the wait.
    void synchronize() override;
    // As a CUDA graph.
    std::unique_ptr<RecordedWork> record_work(const std::function<void()>& enqueue) override;

    void host_wait(uint64_t ticket) override;
    bool done(uint64_t ticket) override;
    void* native_event(uint64_t ticket) override;

    // Called again and again while the host waits for this stream; throws to end the wait.
    void set_wait_check(std::function<void()> check) { wait_check_ = std::move(check); }
    // Called after each synchronize(), when all enqueued work is done.
    void add_idle_hook(std::function<void()> hook) { idle_hooks_.push_back(std::move(hook)); }

private:
    static constexpr uint64_t kEvents = 1024;
    struct TimedWait {
        cudaEvent_t begin, end;
        WaitAccount* account;
    };

    void enqueue_wait(const Event& event);

    cudaEvent_t timing_event();
    void settle_timed_waits();
    // Waits, polling, until query() is done.
    void poll(const std::function<cudaError_t()>& query, const char* what);

    cudaStream_t stream_ = nullptr;
    std::vector<cudaEvent_t> events_;  // of ticket t: (t - 1) % kEvents
    uint64_t recorded_ = 0;            // the newest ticket; 0: none
    std::vector<cudaEvent_t> spare_timing_events_;
    std::deque<TimedWait> timed_waits_;
    std::function<void()> wait_check_;
    std::vector<std::function<void()>> idle_hooks_;
};

// The CUDA stream behind a stream of a CudaDevice.
inline cudaStream_t handle_of(Stream& stream) {
    return static_cast<CudaStream&>(stream).handle();
}

}  // namespace trireme
