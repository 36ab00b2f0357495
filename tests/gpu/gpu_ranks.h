#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/cuda/cuda_device.h"
#include "core/error.h"
#include "parallel/nccl/nccl_world.h"
#include "parallel/thread/thread_world.h"
#include "tests/core/expect.h"

namespace trireme::test {

inline constexpr std::chrono::milliseconds kLong{120000};

// Whether there is a GPU for each rank: NCCL refuses two ranks of a process on one. One emulated
// GPU serves any number.
inline bool enough_gpus([[maybe_unused]] int ranks) {
#ifdef TRIREME_CUDA_EMULATED
    return true;
#else
    int gpus = 0;
    if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus >= ranks) return gpus >= ranks;
    WARN("skipped: needs " << ranks << " GPUs");
    return false;
#endif
}

// The GPU of a rank, where ranks are threads.
inline int gpu_of(int rank) {
    int gpus = 1;
    cudaGetDeviceCount(&gpus);
    return rank % std::max(gpus, 1);
}

using RankBody = std::function<void(World& world, CudaDevice& device)>;

inline void run_gpu_ranks(int ranks, const RankBody& body,
                          std::chrono::milliseconds timeout = kLong) {
    run_thread_ranks(
        ranks,
        [&](World& control) {
            CudaDevice device(gpu_of(control.rank()), CudaOpsOptions{});
            const auto world = make_nccl_world(control, device, timeout);
            body(*world, device);
        },
        kLong);
}

// Small whole numbers, which every element type holds and sums exactly.
template <typename T>
T value(int rank, int64_t i) {
    return static_cast<T>(static_cast<float>((i * 7 + rank * 3) % 11));
}

template <typename T>
std::vector<T> values(int rank, int64_t count, int64_t first = 0) {
    std::vector<T> result(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) result[static_cast<size_t>(i)] = value<T>(rank, first + i);
    return result;
}

template <typename T>
std::vector<T> reduced(int ranks, int64_t count, ReduceOp op, int64_t first = 0) {
    std::vector<T> result;
    for (int64_t i = first; i < first + count; ++i) {
        auto total = static_cast<double>(value<T>(0, i));
        for (int r = 1; r < ranks; ++r) {
            const auto next = static_cast<double>(value<T>(r, i));
            total = op == ReduceOp::sum ? total + next : std::max(total, next);
        }
        result.push_back(static_cast<T>(static_cast<float>(total)));
    }
    return result;
}

// Device memory. Its values arrive and are read in the order of the compute stream, so that a
// missing wait shows.
template <typename T>
class Array {
public:
    Array(CudaDevice& device, const std::vector<T>& initial)
        : device_(device),
          tensor_(device.allocate(initial.size() * sizeof(T), "test"), DTypeOf<T>::value,
                  {static_cast<int64_t>(initial.size())}) {
        upload(initial);
    }
    Array(CudaDevice& device, int64_t count)
        : Array(device, std::vector<T>(static_cast<size_t>(count))) {}
    ~Array() {
        if (tensor_.data) device_.release(tensor_.data);
    }
    Array(Array&& other) noexcept : device_(other.device_), tensor_(other.tensor_) {
        other.tensor_.data = nullptr;
    }
    Array(const Array&) = delete;

    const Tensor& get() const { return tensor_; }
    void upload(const std::vector<T>& from) {
        device_.copy_to_device(tensor_.data, from.data(), tensor_.bytes());
    }
    std::vector<T> download() const { return download(tensor_); }
    std::vector<T> download(const Tensor& part) const {
        std::vector<T> result(static_cast<size_t>(part.elements()));
        device_.copy_to_host(result.data(), part.data, part.bytes());
        device_.compute().synchronize();
        return result;
    }
    void expect(const std::vector<T>& expected, const std::string& what) const {
        expect(tensor_, expected, what);
    }
    void expect(const Tensor& part, const std::vector<T>& expected, const std::string& what) const {
        const std::vector<T> found = download(part);
        for (size_t i = 0; i < expected.size(); ++i) {
            if (std::memcmp(&found[i], &expected[i], sizeof(T)) == 0) continue;
            throw std::runtime_error(
                what + " of " + std::string(name_of(tensor_.dtype)) + ", element " +
                std::to_string(i) + " of " + std::to_string(expected.size()) + ": " +
                std::to_string(static_cast<double>(found[i])) + " instead of " +
                std::to_string(static_cast<double>(expected[i])));
        }
    }

private:
    CudaDevice& device_;
    Tensor tensor_;
};

}  // namespace trireme::test
