#pragma once

#include <cstring>

#include "core/cpu/cpu_ops.h"
#include "core/device.h"

namespace trireme {

// Compute that runs inline: every event it records is complete already.
class CpuStream final : public Stream {
public:
    Event record() override { return {}; }
    void wait(const Event& event) override;
    void copy(void* to, const void* from, size_t bytes) override {
        if (bytes > 0) std::memcpy(to, from, bytes);
    }
    void synchronize() override {}
};

// The processor of this machine as a device, with `threads` compute threads. Used by one host
// thread at a time.
class CpuDevice : public Device {
public:
    explicit CpuDevice(int threads);

    Backend backend() const override { return Backend::cpu; }
    std::string description() const override;
    Stream& compute() override { return stream_; }
    Ops& ops() override { return ops_; }
    int host_threads() const override { return ops_.threads(); }

    void copy_to_device(void* device, const void* host, size_t bytes) override;
    void copy_to_host(void* host, const void* device, size_t bytes) override;
    uint64_t peak_memory_bytes() const override;
    uint64_t memory_bytes() const override;  // of the machine, or what control groups leave of it

protected:
    // Pages are touched at once, by the compute threads, so that memory lies near the threads that
    // use it, and what does not fit is refused instead of killed for later.
    void* take_memory(size_t bytes, std::string& reason) override;
    void give_back_memory(void* memory) override;

private:
    CpuStream stream_;
    CpuOps ops_;
};

}  // namespace trireme
