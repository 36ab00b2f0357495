#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/cuda/cuda_device.h"
#include "tests/core/test_support.h"

namespace trireme::test {

// The GPU that all tests of this program share: a real one, or the emulated one.
CudaDevice& gpu();

// A copy of a tensor in device memory of its own, so that accesses beyond it can be found.
class GpuTensor {
public:
    explicit GpuTensor(const OwnedTensor& values)
        : shape_(values.get().shape), dtype_(values.get().dtype) {
        tensor_ = Tensor(gpu().allocate(values.get().bytes(), "test"), dtype_, shape_);
        gpu().copy_to_device(tensor_.data, values.get().data, tensor_.bytes());
    }
    ~GpuTensor() {
        if (tensor_.data) gpu().release(tensor_.data);
    }
    GpuTensor(GpuTensor&& other) noexcept
        : shape_(other.shape_), dtype_(other.dtype_), tensor_(std::exchange(other.tensor_, {})) {}
    GpuTensor(const GpuTensor&) = delete;

    const Tensor& get() const { return tensor_; }
    OwnedTensor download() const {
        OwnedTensor values(dtype_, shape_);
        gpu().copy_to_host(values.get().data, tensor_.data, tensor_.bytes());
        gpu().compute().synchronize();
        return values;
    }

private:
    Shape shape_;
    DType dtype_;
    Tensor tensor_;
};

// For what must not differ at all.
inline constexpr Tolerance kSameValues{0.0, 1e-300};

// For two results on either side of a rounding to the type: neighbouring bf16 numbers, which are up
// to 1/128 apart. one_rounding is the distance of either from the exact value.
inline Tolerance one_step(DType dtype) {
    return dtype == DType::bf16 ? Tolerance{1.0 / 128, 4e-6} : one_rounding(dtype);
}

// An operation on tensors of either device. `t` are the tensors in the order of compare_devices.
using Operation = std::function<void(Ops& ops, Stream& stream, const std::vector<Tensor>& t)>;

// Runs the operation on copies of the tensors on the CPU and on the GPU and compares all tensors
// afterwards, those that were only read included. tolerances: of each tensor, or one for all.
inline void compare_devices(const std::vector<OwnedTensor>& tensors,
                            const std::vector<Tolerance>& tolerances, const Operation& operation,
                            const std::string& what) {
    std::vector<OwnedTensor> on_cpu = tensors;
    std::vector<GpuTensor> on_gpu;
    std::vector<Tensor> cpu_views, gpu_views;
    for (const OwnedTensor& tensor : on_cpu) {
        cpu_views.push_back(tensor.get());
        on_gpu.emplace_back(tensor);
    }
    for (const GpuTensor& tensor : on_gpu) gpu_views.push_back(tensor.get());
    CpuOps cpu_ops(2);
    CpuStream cpu_stream;
    operation(cpu_ops, cpu_stream, cpu_views);
    operation(gpu().ops(), gpu().compute(), gpu_views);
    for (size_t i = 0; i < tensors.size(); ++i) {
        const Tolerance tolerance = tolerances.size() == 1 ? tolerances[0] : tolerances.at(i);
        check_close(on_gpu[i].download().values(), on_cpu[i].values(), tolerance,
                    what + ", tensor " + std::to_string(i));
    }
}

// Runs the operation twice on the GPU and checks that both give the same bits.
inline void check_repeatable(const std::vector<OwnedTensor>& tensors, const Operation& operation) {
    std::vector<std::vector<char>> bytes[2];
    for (auto& of_run : bytes) {
        std::vector<GpuTensor> on_gpu;
        std::vector<Tensor> views;
        for (const OwnedTensor& tensor : tensors) on_gpu.emplace_back(tensor);
        for (const GpuTensor& tensor : on_gpu) views.push_back(tensor.get());
        operation(gpu().ops(), gpu().compute(), views);
        for (const GpuTensor& tensor : on_gpu) of_run.push_back(tensor.download().bytes());
    }
    const bool same_bits = bytes[0] == bytes[1];  // not CHECK's to print, byte by byte
    CHECK(same_bits);
}

}  // namespace trireme::test
