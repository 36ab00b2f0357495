#include "core/cuda/gpu_timer.h"

#include "core/cuda/cuda_error.h"
#include "core/cuda/cuda_stream.h"

namespace trireme {

namespace {

constexpr int kWarmUpRuns = 3;
constexpr int kTimedRuns = 5;

class TimingEvent {
public:
    TimingEvent() {
        check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDefault), "making an event");
    }
    ~TimingEvent() { cudaEventDestroy(event_); }
    TimingEvent(const TimingEvent&) = delete;
    TimingEvent& operator=(const TimingEvent&) = delete;

    void record(Stream& stream) {
        check_cuda(cudaEventRecord(event_, handle_of(stream)), "recording an event");
    }
    double microseconds_since(const TimingEvent& begin) const {
        float milliseconds = 0.0f;
        check_cuda(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "timing the GPU");
        return static_cast<double>(milliseconds) * 1e3;
    }

private:
    cudaEvent_t event_ = nullptr;
};

}  // namespace

std::optional<double> measure_microseconds(Stream& stream, const std::function<bool()>& enqueue) {
    TimingEvent begin, end;
    for (int i = 0; i < kWarmUpRuns + kTimedRuns; ++i) {
        if (i == kWarmUpRuns) begin.record(stream);
        if (!enqueue()) {
            stream.synchronize();
            return std::nullopt;
        }
    }
    end.record(stream);
    stream.synchronize();
    return end.microseconds_since(begin) / kTimedRuns;
}

}  // namespace trireme
