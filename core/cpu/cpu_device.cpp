#include "core/cpu/cpu_device.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/cpu/amx_support.h"
#include "core/cpu/parallel_for.h"
#include "core/host_limits.h"
#include "core/trace.h"

namespace trireme {

namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kShownWaitNs = 20'000;  // shorter waits would crowd a trace

// The kernel grants more than there is and kills later. So memory is touched piece by piece, and
// each is refused that would leave next to nothing to the machine's other processes, or to those of
// this one's control group. Ranks that take memory at the same time see each other's pieces.
constexpr size_t kPiece = size_t{256} << 20;

// Whether that much more does not fit; `reason` then says so.
bool is_too_much(size_t bytes, std::string& reason) {
    const HostMemory memory = host_memory();
    const uint64_t reserve = std::min<uint64_t>(memory.total / 128, kPiece);
    if (bytes > memory.total || bytes > memory.available - std::min(memory.available, reserve)) {
        reason = std::to_string(memory.available >> 20) + " MiB are free of the " +
                 std::to_string(memory.total >> 20) +
                 " MiB that the machine or this job's control group has";
        return true;
    }
    return false;
}

}  // namespace

void CpuStream::wait(const Event& event) {
    if (!event.source) return;
    WaitAccount* account = event.source->wait_account();
    if (!account) {
        event.source->host_wait(event.ticket);
        return;
    }
    const int64_t begin = Trace::now_ns();
    event.source->host_wait(event.ticket);
    const int64_t end = Trace::now_ns();
    account->seconds += static_cast<double>(end - begin) * 1e-9;
    if (account->trace && end - begin > kShownWaitNs) {
        account->trace->record(account->name, "wait", begin, end);
    }
}

CpuDevice::CpuDevice(int threads) : ops_(threads) {}

std::string CpuDevice::description() const {
    const int threads = ops_.threads();
    return "CPU, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads") +
           ", bf16 matmul by " + std::string(name_of(this_processor().bf16_matmul));
}

void* CpuDevice::take_memory(size_t bytes, std::string& reason) {
    constexpr size_t kSmall = size_t{16} << 20;  // asking would take longer than taking
    if (bytes > kSmall && is_too_much(bytes, reason)) return nullptr;
    const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
    const size_t rounded = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded);
    if (!memory) {
        reason = "the system refused";
        return nullptr;
    }
    if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
    for (size_t done = 0; done < rounded; done += kPiece) {
        const size_t piece = std::min(kPiece, rounded - done);
        if (done > 0 && is_too_much(piece, reason)) {
            std::free(memory);
            return nullptr;
        }
        char* first = static_cast<char*>(memory) + done;
        parallel_ranges(ops_.threads(), static_cast<int64_t>(piece / kCacheLine), 1 << 14,
                        [&](int64_t begin, int64_t end) {
                            std::memset(first + static_cast<size_t>(begin) * kCacheLine, 0,
                                        static_cast<size_t>(end - begin) * kCacheLine);
                        });
    }
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
    return host_memory().total;
}

uint64_t CpuDevice::peak_memory_bytes() const {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace trireme
