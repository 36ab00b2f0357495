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
    void timed_wait(const Event& event, double& seconds) override;
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
    uint64_t memory_bytes() const override;  // of the machine

protected:
    // Pages are touched at once, by the compute threads, so that a run that does not fit fails at
    // its start and memory lies near the threads that use it.
    void* take_memory(size_t bytes, std::string& reason) override;
    void give_back_memory(void* memory) override;

private:
    CpuStream stream_;
    CpuOps ops_;
};

// Compute threads of one rank: `asked`, or where that is 0 this process's processors divided by
// the ranks on the machine, at least one.
int cpu_threads_per_rank(int asked, int processors, int local_ranks);

// The part of its threads' full speed that a rank gets when all ranks on the machine compute:
// below 1 where they have more threads than there are processors. `processors`: those this rank may
// run on; where the machine has enough of them for each rank to have as many, they are its own.
double cpu_share(int threads, int processors, int local_ranks, int machine_processors);

// That of this process; `asked_threads` as in cpu_threads_per_rank.
double cpu_share_of_rank(int asked_threads, int local_ranks);

// Processors this process may run on.
int available_processors();

}  // namespace trireme
