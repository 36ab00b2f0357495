#pragma once

#include <functional>
#include <string>

#include "core/cuda/cuda_ops.h"
#include "core/cuda/cuda_stream.h"
#include "core/cuda/host_staging.h"
#include "core/device.h"

namespace trireme {

// Where device memory comes from. The NCCL carrier brings its own, which it can register.
struct DeviceMemorySource {
    std::function<void*(size_t)> take;  // null when there is not enough
    std::function<void(void*)> give_back;
};

// One GPU, made the calling thread's current device. Used by one host thread at a time.
class CudaDevice final : public Device {
public:
    // Throws Error (config) when there is no such GPU, or this program has no code for it.
    CudaDevice(int ordinal, const CudaOpsOptions& options, int host_threads = 1);
    ~CudaDevice() override;

    Backend backend() const override { return Backend::cuda; }
    std::string description() const override { return description_; }
    int ordinal() const { return ordinal_; }
    const cudaDeviceProp& properties() const { return properties_; }
    double peak_flops_per_second(DType type) const override;
    uint64_t memory_bytes() const override;
    int host_threads() const override { return host_threads_; }

    CudaStream& compute() override { return stream_; }
    CudaOps& ops() override { return *ops_; }

    void settle() override;
    void copy_to_device(void* device, const void* host, size_t bytes) override;
    void copy_to_host(void* host, const void* device, size_t bytes) override;

    // Before the first allocation.
    void set_memory_source(DeviceMemorySource source);

protected:
    void* take_memory(size_t bytes, std::string& reason) override;
    void give_back_memory(void* memory) override;

private:
    int ordinal_;
    int host_threads_;
    cudaDeviceProp properties_{};
    std::string description_;
    DeviceMemorySource source_;
    CudaStream stream_;
    HostStaging staging_;
    std::unique_ptr<CudaOps> ops_;
};

}  // namespace trireme
