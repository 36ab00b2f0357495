#include "core/cuda/cuda_graph.h"

#include "core/cuda/cuda_error.h"

namespace trireme {

namespace {

// As check_cuda(). A refusal has been told then, and is not to be told again by the next call.
void check_recording(cudaError_t status, const char* what) {
    if (status != cudaSuccess) cudaGetLastError();
    check_cuda(status, what);
}

// Ends the recording in any case: a stream left in it would refuse all that follows.
class Recording {
public:
    explicit Recording(cudaStream_t stream) : stream_(stream) {
        // Other threads of the process, such as the one that watches NCCL, work on meanwhile.
        check_recording(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                        "beginning to record work");
    }
    ~Recording() {
        if (!is_ended_) cudaStreamEndCapture(stream_, &graph_);
        if (graph_) cudaGraphDestroy(graph_);
        cudaGetLastError();
    }
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    cudaGraph_t end() {
        is_ended_ = true;
        check_recording(cudaStreamEndCapture(stream_, &graph_), "recording work");
        return graph_;
    }

private:
    cudaStream_t stream_;
    cudaGraph_t graph_ = nullptr;
    bool is_ended_ = false;
};

}  // namespace

CudaGraph::CudaGraph(cudaStream_t stream, const std::function<void()>& enqueue) : stream_(stream) {
    Recording recording(stream);
    enqueue();
    check_recording(cudaGraphInstantiate(&executable_, recording.end(), 0),
                    "making recorded work ready");
    // Now, and not at the first launch, which may come at a worse time.
    const cudaError_t status = cudaGraphUpload(executable_, stream);
    if (status == cudaSuccess) return;
    cudaGraphExecDestroy(executable_);
    check_recording(status, "giving recorded work to the GPU");
}

CudaGraph::~CudaGraph() {
    cudaGraphExecDestroy(executable_);
}

void CudaGraph::enqueue() {
    check_cuda(cudaGraphLaunch(executable_, stream_), "launching recorded work");
}

}  // namespace trireme
