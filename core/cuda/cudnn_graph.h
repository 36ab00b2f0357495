#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/ops.h"

struct cudnnContext;

namespace trireme {

enum class AttentionPass { forward, backward };

// What a graph is for: the GPU of a cuDNN handle, or one that is only described, in cuDNN's JSON,
// for which kernels are chosen but not compiled. That needs no GPU.
struct CudnnTarget {
    cudnnContext* handle = nullptr;
    std::string description;
    int compute_capability = 0;  // of the described one: 90
};

// Device addresses of one call. Heads lie in qkv and dqkv as Ops says; forward leaves dout and dqkv
// out.
struct AttentionAddresses {
    void* qkv = nullptr;
    void* out = nullptr;
    void* lse = nullptr;
    void* dout = nullptr;
    void* dqkv = nullptr;
};

// Causal attention of bf16 tensors in one cuDNN graph: built from the shape (all but its dropout),
// and compiled by cuDNN. The only file with cuDNN's frontend in it.
class CudnnGraph {
public:
    // A shape for which cuDNN has no kernels gives a graph that is not supported(). Throws Error
    // (internal) for failures of another kind: of the driver, or of the compiler that cuDNN calls.
    CudnnGraph(AttentionPass pass, const AttentionShape& shape, const CudnnTarget& target);
    ~CudnnGraph();

    bool supported() const { return refusal_.empty(); }
    const std::string& refusal() const { return refusal_; }  // why not, in cuDNN's words
    size_t workspace_bytes() const { return workspace_bytes_; }

    // Enqueues on the handle's stream.
    void execute(cudnnContext* handle, const AttentionAddresses& addresses, void* workspace);

private:
    struct State;
    std::unique_ptr<State> state_;
    std::string refusal_;
    size_t workspace_bytes_ = 0;
};

// A handle whose work goes to `stream` (a cudaStream_t) of the current device.
cudnnContext* make_cudnn_handle(void* stream);
void destroy_cudnn_handle(cudnnContext* handle);

}  // namespace trireme
