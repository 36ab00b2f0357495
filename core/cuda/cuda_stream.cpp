#include "core/cuda/cuda_stream.h"

#include <chrono>
#include <thread>

#include "core/cuda/cuda_error.h"
#include "core/cuda/cuda_graph.h"
#include "core/error.h"

namespace trireme {

CudaStream::CudaStream(Priority priority) {
    int least = 0, greatest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "stream priorities");
    check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                            priority == Priority::high ? greatest : least),
               "making a stream");
}

CudaStream::~CudaStream() {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    for (cudaEvent_t event : spare_timing_events_) cudaEventDestroy(event);
    for (const TimedWait& wait : timed_waits_) {
        cudaEventDestroy(wait.begin);
        cudaEventDestroy(wait.end);
    }
    cudaStreamDestroy(stream_);
}

Event CudaStream::record() {
    const uint64_t ticket = ++recorded_;
    if (events_.size() < kEvents) {
        cudaEvent_t event = nullptr;
        check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
        events_.push_back(event);
    }
    const size_t slot = static_cast<size_t>((ticket - 1) % kEvents);
    check_cuda(cudaEventRecord(events_[slot], stream_), "recording an event");
    return {this, ticket};
}

void CudaStream::wait(const Event& event) {
    if (!event.source || event.source == this) return;
    WaitAccount* account = event.source->wait_account();
    if (!account) {
        enqueue_wait(event);
        return;
    }
    const TimedWait timed{timing_event(), timing_event(), account};
    check_cuda(cudaEventRecord(timed.begin, stream_), "recording an event");
    enqueue_wait(event);
    check_cuda(cudaEventRecord(timed.end, stream_), "recording an event");
    timed_waits_.push_back(timed);
}

void CudaStream::enqueue_wait(const Event& event) {
    if (void* native = event.source->native_event(event.ticket)) {
        check_cuda(cudaStreamWaitEvent(stream_, static_cast<cudaEvent_t>(native), 0),
                   "waiting for an event");
    } else {
        event.source->host_wait(event.ticket);
    }
}

void CudaStream::copy(void* to, const void* from, size_t bytes) {
    if (bytes == 0) return;
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_),
               "copying device memory");
}

void CudaStream::synchronize() {
    poll([this] { return cudaStreamQuery(stream_); }, "work on the GPU");
    settle_timed_waits();
    for (const auto& hook : idle_hooks_) hook();
}

std::unique_ptr<RecordedWork> CudaStream::record_work(const std::function<void()>& enqueue) {
    return std::make_unique<CudaGraph>(stream_, enqueue);
}

void CudaStream::host_wait(uint64_t ticket) {
    auto event = static_cast<cudaEvent_t>(native_event(ticket));
    poll([event] { return cudaEventQuery(event); }, "work on the GPU");
}

bool CudaStream::done(uint64_t ticket) {
    const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(native_event(ticket)));
    if (status == cudaErrorNotReady) {
        cudaGetLastError();  // it is not to be reported again by the next call
        return false;
    }
    check_cuda(status, "work on the GPU");
    return true;
}

void* CudaStream::native_event(uint64_t ticket) {
    TRIREME_CHECK(ticket >= 1 && ticket <= recorded_, "the ticket of a recorded event");
    return events_[static_cast<size_t>((ticket - 1) % kEvents)];
}

cudaEvent_t CudaStream::timing_event() {
    if (!spare_timing_events_.empty()) {
        cudaEvent_t event = spare_timing_events_.back();
        spare_timing_events_.pop_back();
        return event;
    }
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDefault), "making an event");
    return event;
}

void CudaStream::settle_timed_waits() {
    for (const TimedWait& wait : timed_waits_) {
        float milliseconds = 0.0f;
        check_cuda(cudaEventElapsedTime(&milliseconds, wait.begin, wait.end), "timing a wait");
        wait.account->seconds += static_cast<double>(milliseconds) * 1e-3;
        spare_timing_events_.push_back(wait.begin);
        spare_timing_events_.push_back(wait.end);
    }
    timed_waits_.clear();
}

void CudaStream::poll(const std::function<cudaError_t()>& query, const char* what) {
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    auto next_check = begin + std::chrono::milliseconds(1);
    while (true) {
        const cudaError_t status = query();
        if (status != cudaErrorNotReady) {
            // A failed collective is often the cause, and knows more; one that was aborted ends as
            // if it had succeeded.
            if (wait_check_) wait_check_();
            check_cuda(status, what);
            return;
        }
        cudaGetLastError();  // it is not to be reported again by the next call
        const auto now = Clock::now();
        if (wait_check_ && now >= next_check) {
            wait_check_();
            next_check = now + std::chrono::milliseconds(1);
        }
        // Short waits are spun through, long ones leave the core to others.
        if (now - begin > std::chrono::milliseconds(1)) {
            std::this_thread::sleep_for(std::chrono::microseconds(20));
        } else {
            std::this_thread::yield();
        }
    }
}

}  // namespace trireme
