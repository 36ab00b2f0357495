#pragma once

// A stand-in for CUDA's header of this name, with which the GPU code of the project is compiled as
// ordinary C++ and run on the CPU: to test kernels, streams and events without a GPU. It declares
// what the project uses and nothing else. See tests/cuda_emulation/README.md.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
// Blocks run one after another on the thread of their stream.
#define __shared__ static thread_local

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3() = default;
    dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
};
const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int major, minor;
    int multiProcessorCount;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);

struct cudaFuncAttributes {
    size_t sharedSizeBytes;
};
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function);

cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);

namespace cuda_emulation {
class Stream;
class Event;
class Graph;
}  // namespace cuda_emulation
using cudaStream_t = cuda_emulation::Stream*;
using cudaEvent_t = cuda_emulation::Event*;
using cudaGraph_t = cuda_emulation::Graph*;
using cudaGraphExec_t = cuda_emulation::Graph*;

enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
};
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0;
inline constexpr unsigned cudaEventDisableTiming = 2;

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

// --- what kernels use --------------------------------------------------------------------------

namespace cuda_emulation {

struct ThreadPlace {
    uint3 thread_index;
    uint3 block_index;
    dim3 block_size;
    dim3 grid_size;
};
// Of the emulated thread that runs at this moment.
const ThreadPlace& place();
void synchronize_block();
// Gives `value` to the lane `lane ^ mask` of the warp and takes its own in exchange.
uint64_t exchange_in_warp(uint64_t value, int mask);
// The same with the value of a certain lane.
uint64_t take_from_lane(uint64_t value, int lane);
void synchronize_warp();

// What core/cuda/tensor_core.h is made of, with the layouts that it describes.
void multiply_add_in_warp(float (&sums)[4], const uint32_t (&left)[4], const uint32_t (&right)[2]);
void load_matrices_in_warp(uint32_t (&to)[4], const void* row, bool transposed);
// 16 bytes, or zeros. Rubbish until it has been waited for.
void copy_later(void* to, const void* from, bool zeros);
void mark_copies();
void wait_for_copies(int but);

void* dynamic_shared_memory();

void enqueue(cudaStream_t stream, std::function<void()> work);
// To be called before a kernel is launched. As CUDA may: at the first time it waits for all that
// this host thread, which stands for a process, has given the GPU.
void load_kernel(uint64_t identity);
void run_grid(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()>& thread);

template <typename... Parameters>
void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared_bytes,
            cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
    load_kernel(reinterpret_cast<uintptr_t>(kernel));
    enqueue(stream, [=, values = std::tuple<std::remove_cv_t<Parameters>...>(arguments...)] {
        run_grid(blocks, threads, shared_bytes, [&] { std::apply(kernel, values); });
    });
}

template <typename T>
uint64_t to_word(T value) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t word = 0;
    __builtin_memcpy(&word, &value, sizeof(T));
    return word;
}
template <typename T>
T from_word(uint64_t word) {
    T value;
    __builtin_memcpy(&value, &word, sizeof(T));
    return value;
}

}  // namespace cuda_emulation

#define threadIdx (::cuda_emulation::place().thread_index)
#define blockIdx (::cuda_emulation::place().block_index)
#define blockDim (::cuda_emulation::place().block_size)
#define gridDim (::cuda_emulation::place().grid_size)

inline void __syncthreads() {
    ::cuda_emulation::synchronize_block();
}
inline void __syncwarp() {
    ::cuda_emulation::synchronize_warp();
}

template <typename T>
T __shfl_xor_sync(unsigned /*lanes*/, T value, int mask) {
    using namespace cuda_emulation;
    return from_word<T>(exchange_in_warp(to_word(value), mask));
}
template <typename T>
T __shfl_sync(unsigned /*lanes*/, T value, int lane) {
    using namespace cuda_emulation;
    return from_word<T>(take_from_lane(to_word(value), lane));
}
