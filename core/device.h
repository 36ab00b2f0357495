#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "core/ops.h"
#include "core/stream.h"

namespace trireme {

enum class Backend { automatic, cpu, cuda };

struct DeviceOptions {
    Backend backend = Backend::automatic;  // automatic: the GPU where there is one, else the CPU
    int threads = 0;                       // CPU compute threads per rank; 0: cores / local ranks
};

// One processor with its memory, its compute stream and its operations. The only way to compute:
// callers never know which back end is behind it.
class Device {
public:
    virtual ~Device() = default;

    virtual Backend backend() const = 0;
    virtual std::string description() const = 0;

    virtual Stream& compute() = 0;
    virtual Ops& ops() = 0;

    // Raw memory, 64-byte aligned, zeroed. Called by arenas only. Throws Error (out_of_memory).
    virtual void* allocate(size_t bytes) = 0;
    virtual void release(void* memory) = 0;

    // Copies between host and device memory, in the compute stream's order. The host buffer must
    // stay untouched until the stream has passed this point.
    virtual void copy_to_device(void* device, const void* host, size_t bytes) = 0;
    virtual void copy_to_host(void* host, const void* device, size_t bytes) = 0;
};

// `local_ranks`: how many ranks of this run share the machine. Throws Error (config) when the
// asked back end is not built in or has no driver.
std::unique_ptr<Device> make_device(const DeviceOptions& options, int local_rank, int local_ranks);

}  // namespace trireme
