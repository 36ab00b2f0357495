#include "core/cpu/cpu_device.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/cpu/amx_support.h"
#include "core/cpu/parallel_for.h"

namespace trireme {

namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

[[noreturn]] void fail_allocation(size_t bytes, const std::string& reason) {
    throw Error(ExitCode::out_of_memory,
                "cannot allocate " + std::to_string(bytes) + " bytes (" +
                    std::to_string(bytes >> 20) + " MiB) of memory: " + reason +
                    "; use a smaller micro-batch or model, more ranks on more machines, or close "
                    "other programs");
}

// The kernel grants more than there is and kills later; an impossible size is refused here.
size_t physical_memory() {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_size = sysconf(_SC_PAGE_SIZE);
    if (pages <= 0 || page_size <= 0) return SIZE_MAX;
    return static_cast<size_t>(pages) * static_cast<size_t>(page_size);
}

}  // namespace

CpuDevice::CpuDevice(int threads) : ops_(threads) {}

std::string CpuDevice::description() const {
    const int threads = ops_.threads();
    return "CPU, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") +
           ", bf16 matmul by " + std::string(name_of(this_processor().bf16_matmul));
}

void* CpuDevice::allocate(size_t bytes) {
    const size_t total = physical_memory();
    if (bytes > total) {
        fail_allocation(bytes, "the machine has " + std::to_string(total) + " bytes");
    }
    const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
    const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded);
    if (!memory) fail_allocation(bytes, "the system refused");
    if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
    char* first = static_cast<char*>(memory);
    parallel_ranges(ops_.threads(), static_cast<int64_t>(rounded / kCacheLine), 1 << 14,
                    [&](int64_t begin, int64_t end) {
                        std::memset(first + static_cast<size_t>(begin) * kCacheLine, 0,
                                    static_cast<size_t>(end - begin) * kCacheLine);
                    });
    return memory;
}

void CpuDevice::release(void* memory) { std::free(memory); }

void CpuDevice::copy_to_device(void* device, const void* host, size_t bytes) {
    if (bytes > 0) std::memcpy(device, host, bytes);
}

void CpuDevice::copy_to_host(void* host, const void* device, size_t bytes) {
    if (bytes > 0) std::memcpy(host, device, bytes);
}

int cpu_threads_per_rank(int asked, int processors, int local_ranks) {
    if (asked > 0) return asked;
    return std::max(1, processors / std::max(1, local_ranks));
}

int available_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

}  // namespace trireme
