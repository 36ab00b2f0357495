#include "core/cuda/cuda_device.h"

#include <array>
#include <string_view>

#include "core/cuda/cuda_error.h"
#include "core/cuda/gpu_code.h"
#include "core/cuda/matmul.h"

namespace trireme {

namespace {

constexpr size_t kStagingBytes = size_t{16} << 20;

// Dense rates of the makers' data sheets, in TFLOP/s. The first name that the device's contains.
struct KnownRate {
    std::string_view name;
    double bf16;
    double f32;
};

constexpr std::array kKnownRates = {
    KnownRate{"H200", 989.4, 66.9},     KnownRate{"H100 PCIe", 756.0, 51.2},
    KnownRate{"H100 NVL", 835.5, 60.0}, KnownRate{"H100", 989.4, 66.9},
    KnownRate{"GH200", 989.4, 66.9},    KnownRate{"H800", 989.4, 66.9},
    KnownRate{"A100", 312.0, 19.5},     KnownRate{"A800", 312.0, 19.5},
    KnownRate{"B200", 2250.0, 75.0},    KnownRate{"L40S", 362.05, 91.6},
};

std::string version_text(int version) {  // 13000 is 13.0
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

cudaDeviceProp select_device(int ordinal) {
    check_cuda(cudaSetDevice(ordinal), "choosing the GPU");
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, ordinal), "reading the GPU's properties");
    return properties;
}

std::string describe(const cudaDeviceProp& properties, int ordinal) {
    int runtime = 0, driver = 0;
    check_cuda(cudaRuntimeGetVersion(&runtime), "reading the CUDA version");
    check_cuda(cudaDriverGetVersion(&driver), "reading the driver's CUDA version");
    return std::string(properties.name) + " (GPU " + std::to_string(ordinal) + ", sm_" +
           std::to_string(properties.major) + std::to_string(properties.minor) + ", " +
           std::to_string(properties.totalGlobalMem >> 20) + " MiB; CUDA " + version_text(runtime) +
           ", driver for " + version_text(driver) + ")";
}

DeviceMemorySource plain_memory() {
    return {[](size_t bytes) {
                void* memory = nullptr;
                const cudaError_t status = cudaMalloc(&memory, bytes);
                if (status == cudaErrorMemoryAllocation) {
                    cudaGetLastError();  // it is not to be reported again by the next call
                    return static_cast<void*>(nullptr);
                }
                check_cuda(status, "cudaMalloc");
                return memory;
            },
            [](void* memory) { cudaFree(memory); }};
}

}  // namespace

CudaDevice::CudaDevice(int ordinal, const CudaOpsOptions& options, int host_threads)
    : ordinal_(ordinal),
      host_threads_(host_threads),
      properties_(select_device(ordinal)),
      description_(describe(properties_, ordinal)),
      source_(plain_memory()),
      staging_(stream_, kStagingBytes),
      ops_(std::make_unique<CudaOps>(*this, options)) {
    check_code_for_this_gpu(properties_);
}

CudaDevice::~CudaDevice() {
    // Whatever failed has been reported; the memory below must not be freed under running work.
    cudaStreamSynchronize(stream_.handle());
    ops_.reset();
    Device::settle();
}

void CudaDevice::settle() {
    ops_->matmul().forget_trials();
    Device::settle();
}

double CudaDevice::peak_flops_per_second(DType type) const {
    for (const KnownRate& rate : kKnownRates) {
        if (std::string_view(properties_.name).find(rate.name) == std::string_view::npos) continue;
        return (type == DType::bf16 ? rate.bf16 : rate.f32) * 1e12;
    }
    return 0.0;
}

void CudaDevice::copy_to_device(void* device, const void* host, size_t bytes) {
    staging_.upload(device, host, bytes);
}

void CudaDevice::copy_to_host(void* host, const void* device, size_t bytes) {
    staging_.download(host, device, bytes);
}

void CudaDevice::set_memory_source(DeviceMemorySource source) {
    TRIREME_CHECK(allocated_bytes() == 0, "no device memory to be taken before its source is set");
    source_ = std::move(source);
}

uint64_t CudaDevice::memory_bytes() const {
    size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "asking for device memory");
    return total;
}

void* CudaDevice::take_memory(size_t bytes, std::string& reason) {
    void* memory = source_.take(bytes > 0 ? bytes : 1);
    if (!memory) {
        size_t free = 0, total = 0;
        check_cuda(cudaMemGetInfo(&free, &total), "asking for free device memory");
        reason = std::to_string(free) + " of " + std::to_string(total) +
                 " bytes are free, other processes on this GPU counted";
        return nullptr;
    }
    check_cuda(cudaMemsetAsync(memory, 0, bytes, stream_.handle()), "zeroing device memory");
    stream_.synchronize();
    return memory;
}

void CudaDevice::give_back_memory(void* memory) {
    source_.give_back(memory);
}

}  // namespace trireme
