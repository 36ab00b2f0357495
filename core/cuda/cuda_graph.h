#pragma once

#include <cuda_runtime.h>

#include <functional>

#include "core/stream.h"

namespace trireme {

// Work of one stream as a CUDA graph, which the driver launches as a whole: that takes the host
// less time than kernel after kernel.
class CudaGraph final : public RecordedWork {
public:
    // Calls `enqueue` while the stream records. Throws what it throws, and Error when CUDA refuses;
    // the stream then works on as before.
    CudaGraph(cudaStream_t stream, const std::function<void()>& enqueue);
    // A launch under way goes on to its end.
    ~CudaGraph() override;
    CudaGraph(const CudaGraph&) = delete;
    CudaGraph& operator=(const CudaGraph&) = delete;

    void enqueue() override;

private:
    cudaStream_t stream_;
    cudaGraphExec_t executable_ = nullptr;
};

}  // namespace trireme
