#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace trireme {

// What the GPU did between two points of time, from the records that CUPTI (the profiling library
// of CUDA) keeps of each kernel and copy.
struct GpuTimeSplit {
    double attention_seconds = 0;
    double own_attention_seconds = 0;  // the part of it that runs on the project's own kernels
    double matmul_seconds = 0;
    double other_seconds = 0;  // all other kernels, copies, fills
    double gap_seconds = 0;    // between the first start and the last end, when nothing ran
    double total_seconds = 0;
    int64_t kernels = 0;
    std::map<std::string, double> seconds_of;  // by kernel name, shortened
};

// Runs `work`, which must end with everything on the GPU done, and returns what the GPU did.
// One at a time in a process.
template <typename Work>
GpuTimeSplit record_gpu_time(const Work& work);

void begin_gpu_records();
GpuTimeSplit end_gpu_records();

template <typename Work>
GpuTimeSplit record_gpu_time(const Work& work) {
    begin_gpu_records();
    work();
    return end_gpu_records();
}

}  // namespace trireme
