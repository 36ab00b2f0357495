#include "core/cpu/cpu_device.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/cpu/amx_support.h"
#include "core/cpu/parallel_for.h"
#include "core/trace.h"

namespace trireme {

namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kShownWaitNs = 20'000;  // shorter waits would crowd a trace

// The kernel grants more than there is and kills later; an impossible size is refused here.
size_t physical_memory() {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_size = sysconf(_SC_PAGE_SIZE);
    if (pages <= 0 || page_size <= 0) return SIZE_MAX;
    return static_cast<size_t>(pages) * static_cast<size_t>(page_size);
}

}  // namespace

void CpuStream::wait(const Event& event) {
    if (!event.source) return;
    if (event.source->wait_account()) {
        double seconds = 0.0;
        timed_wait(event, seconds);
    } else {
        event.source->host_wait(event.ticket);
    }
}

void CpuStream::timed_wait(const Event& event, double& seconds) {
    if (!event.source) return;
    const int64_t begin = Trace::now_ns();
    event.source->host_wait(event.ticket);
    const int64_t end = Trace::now_ns();
    const double waited = static_cast<double>(end - begin) * 1e-9;
    seconds += waited;
    WaitAccount* account = event.source->wait_account();
    if (!account) return;
    account->seconds += waited;
    if (account->trace && end - begin > kShownWaitNs) {
        account->trace->record(account->name, "wait", Trace::kComputeTrack, begin, end);
    }
}

CpuDevice::CpuDevice(int threads) : ops_(threads) {}

std::string CpuDevice::description() const {
    const int threads = ops_.threads();
    return "CPU, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") +
           ", bf16 matmul by " + std::string(name_of(this_processor().bf16_matmul));
}

void* CpuDevice::take_memory(size_t bytes, std::string& reason) {
    const size_t total = physical_memory();
    if (bytes > total) {
        reason = "the machine has " + std::to_string(total) + " bytes";
        return nullptr;
    }
    const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
    const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded);
    if (!memory) {
        reason = "the system refused";
        return nullptr;
    }
    if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
    char* first = static_cast<char*>(memory);
    parallel_ranges(ops_.threads(), static_cast<int64_t>(rounded / kCacheLine), 1 << 14,
                    [&](int64_t begin, int64_t end) {
                        std::memset(first + static_cast<size_t>(begin) * kCacheLine, 0,
                                    static_cast<size_t>(end - begin) * kCacheLine);
                    });
    return memory;
}

void CpuDevice::give_back_memory(void* memory) {
    std::free(memory);
}

void CpuDevice::copy_to_device(void* device, const void* host, size_t bytes) {
    if (bytes > 0) std::memcpy(device, host, bytes);
}

void CpuDevice::copy_to_host(void* host, const void* device, size_t bytes) {
    if (bytes > 0) std::memcpy(host, device, bytes);
}

uint64_t CpuDevice::memory_bytes() const {
    return physical_memory();
}

uint64_t CpuDevice::peak_memory_bytes() const {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

int cpu_threads_per_rank(int asked, int processors, int local_ranks) {
    if (asked > 0) return asked;
    return std::max(1, processors / std::max(1, local_ranks));
}

double cpu_share(int threads, int processors, int local_ranks, int machine_processors) {
    const int64_t ranks = std::max(1, local_ranks);
    // Bound to cores of its own, as far as one rank can tell.
    if (processors * ranks <= machine_processors) return 1.0;
    const auto wanted = static_cast<double>(ranks * std::max(1, threads));
    return std::min(1.0, static_cast<double>(processors) / wanted);
}

double cpu_share_of_rank(int asked_threads, int local_ranks) {
    const int processors = available_processors();
    const int machine = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    return cpu_share(cpu_threads_per_rank(asked_threads, processors, local_ranks), processors,
                     local_ranks, machine);
}

int available_processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

}  // namespace trireme
