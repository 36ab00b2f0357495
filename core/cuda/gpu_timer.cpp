#include "core/cuda/gpu_timer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/cuda/cuda_error.h"
#include "core/cuda/cuda_stream.h"

namespace trireme {

namespace {

// An idle GPU runs at a fraction of its clock, and takes a moment to change that.
constexpr std::chrono::milliseconds kWarmUp{200};
constexpr int kWarmUpRuns = 10;  // between looks at the time
constexpr int kTurns = 3;
// Shorter turns would measure how fast the host enqueues.
constexpr double kTurnMicroseconds = 1000.0;
constexpr double kMostRuns = 50.0;

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

// Of one run among some.
std::optional<double> microseconds_of(Stream& stream, const GpuTimer::Way& way, int runs) {
    TimingEvent begin, end;
    begin.record(stream);
    for (int i = 0; i < runs; ++i) {
        if (!way()) {
            stream.synchronize();
            return std::nullopt;
        }
    }
    end.record(stream);
    stream.synchronize();
    return end.microseconds_since(begin) / runs;
}

void warm_up(Stream& stream, const GpuTimer::Way& way) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point end = Clock::now() + kWarmUp;
    while (microseconds_of(stream, way, kWarmUpRuns) && Clock::now() < end) continue;
}

}  // namespace

std::vector<std::optional<double>> GpuTimer::compare(Stream& stream, std::span<const Way> ways) {
    if (!is_warm_ && !ways.empty()) warm_up(stream, ways.front());
    is_warm_ = true;
    std::vector<std::optional<double>> fastest;
    std::vector<int> runs;
    for (const Way& way : ways) {
        microseconds_of(stream, way, 1);  // the first run may load the kernel
        fastest.push_back(microseconds_of(stream, way, 1));
        const double wanted = kTurnMicroseconds / std::max(fastest.back().value_or(0.0), 1e-3);
        runs.push_back(static_cast<int>(std::clamp(std::ceil(wanted), 1.0, kMostRuns)));
    }
    for (int turn = 0; turn < kTurns; ++turn) {
        for (size_t i = 0; i < ways.size(); ++i) {
            if (!fastest[i]) continue;
            const std::optional<double> microseconds = microseconds_of(stream, ways[i], runs[i]);
            // The run before was alone, and what it took to enqueue it counted.
            fastest[i] =
                turn == 0 || !microseconds ? microseconds : std::min(*fastest[i], *microseconds);
        }
    }
    return fastest;
}

}  // namespace trireme
