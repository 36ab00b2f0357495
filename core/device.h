#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/ops.h"
#include "core/stream.h"

namespace trireme {

enum class Backend { automatic, cpu, cuda };
enum class GraphUse { never, where_faster, always };

struct DeviceOptions {
    Backend backend = Backend::automatic;  // automatic: the GPU where there is one, else the CPU
    int threads = 0;                       // CPU compute threads per rank; 0: cores / local ranks
    bool share = false;                    // several ranks may use one GPU
    bool deterministic = false;  // GPU: only operations that give the same bits in every run
    bool tune = false;           // GPU: measure matmul algorithms instead of trusting heuristics
    GraphUse graphs = GraphUse::never;  // GPU: launch a whole pass at once
};

// One processor with its memory, its compute stream and its operations. The only way to compute:
// callers never know which back end is behind it.
class Device {
public:
    Device() = default;
    virtual ~Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    virtual Backend backend() const = 0;
    virtual std::string description() const = 0;

    virtual Stream& compute() = 0;
    virtual Ops& ops() = 0;

    // Raw memory, 64-byte aligned, zeroed. Called by arenas and by operations that need scratch,
    // never in steady state. Throws Error (out_of_memory), which says what every label holds.
    void* allocate(size_t bytes, const std::string& label);
    void release(void* memory);
    // As release(), at the next settle(): for memory that is given up while work is under way. A
    // GPU may wait for all of that before it frees memory, for messages from ranks that wait for
    // this one too. Counted as held until then.
    void release_later(void* memory) { unused_.push_back(memory); }
    // Releases what was left for later. To be called where nothing that is under way waits for work
    // that this rank has still to enqueue.
    virtual void settle();
    size_t allocated_bytes() const { return allocated_; }
    // Calls of allocate() and release() so far: what was noted of addresses before the last one may
    // no longer hold.
    uint64_t memory_changes() const { return memory_changes_; }
    // Bytes held now, by label.
    std::map<std::string, size_t> held_bytes() const;
    // The most memory that was in use at a time: on a GPU what was allocated there, on the CPU all
    // of the process.
    virtual uint64_t peak_memory_bytes() const { return peak_allocated_; }
    // Of the whole device, or machine, that other ranks may share; 0 where memory is only planned.
    virtual uint64_t memory_bytes() const { return 0; }
    // False where memory is only planned: what is written into it is lost.
    virtual bool keeps_values() const { return true; }
    // Threads of the host that this rank may compute with where the device's own would be idle.
    virtual int host_threads() const { return 1; }
    // What users are to know of how the device does its work, once; mostly nothing.
    void add_notice(const std::string& text) { notice_ += (notice_.empty() ? "" : "; ") + text; }
    std::string take_notice() { return std::exchange(notice_, {}); }
    // Dense matmul rate by the maker's figures, in FLOP/s; 0 where it is not known.
    virtual double peak_flops_per_second(DType) const { return 0.0; }

    // Copies between host and device memory, in the compute stream's order. The host memory of an
    // upload may be used again at once. What is copied to the host is there after the stream's next
    // synchronize(); till then that memory must live and stay untouched.
    virtual void copy_to_device(void* device, const void* host, size_t bytes) = 0;
    virtual void copy_to_host(void* host, const void* device, size_t bytes) = 0;

protected:
    // Null when there is not enough; `reason` then says what is known about it.
    virtual void* take_memory(size_t bytes, std::string& reason) = 0;
    virtual void give_back_memory(void* memory) = 0;

private:
    struct Allocation {
        std::string label;
        size_t bytes = 0;
    };
    std::map<void*, Allocation> allocations_;
    std::vector<void*> unused_;  // to be released
    size_t allocated_ = 0;
    size_t peak_allocated_ = 0;
    uint64_t memory_changes_ = 0;
    std::string notice_;
};

// `local_ranks`: how many ranks of this run share the machine. Throws Error (config) when the
// asked back end is not built in or has no driver.
std::unique_ptr<Device> make_device(const DeviceOptions& options, int local_rank, int local_ranks);

}  // namespace trireme
