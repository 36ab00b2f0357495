#include "tests/cuda_emulation/nccl_memory.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "tests/cuda_emulation/emulation.h"

namespace nccl_emulation {

namespace {

std::atomic<bool> host_memory_allowed{false};

struct Registration {
    ncclComm_t comm = nullptr;
    const char* begin = nullptr;
    size_t bytes = 0;
};

// Never destroyed: a thread may wait in NCCL when the program ends.
struct Memory {
    std::mutex mutex;
    std::map<const char*, size_t> given;       // from ncclMemAlloc
    std::map<void*, Registration> registered;  // by handle
    uint64_t registrations = 0;
    std::map<std::string, cuda_emulation::NcclTraffic> traffic;  // by communicator's name
};
Memory& memory_known() {
    static auto* the_memory = new Memory;
    return *the_memory;
}

// The registration with this communicator that holds all of the memory, or null.
const Registration* registration_of(ncclComm_t comm, const void* memory, size_t bytes) {
    if (!memory) return nullptr;
    const auto* begin = static_cast<const char*>(memory);
    for (const auto& [handle, known] : memory_known().registered) {
        if (known.comm == comm && begin >= known.begin &&
            begin + bytes <= known.begin + known.bytes) {
            return &known;
        }
    }
    return nullptr;
}

}  // namespace

void fail(const std::string& what) {
    std::fprintf(stderr, "NCCL emulation: %s\n", what.c_str());
    std::abort();
}

void check_memory(const void* memory, size_t bytes) {
    if (host_memory_allowed || cuda_emulation::is_device_memory(memory, bytes)) return;
    fail("a buffer that is no device memory, or is too short");
}

Registered look_up_registrations(ncclComm_t comm, const std::string& name, const Buffers& buffers) {
    const std::lock_guard lock(memory_known().mutex);
    const Registration* from = registration_of(comm, buffers.from, buffers.from_bytes);
    const Registration* to = registration_of(comm, buffers.to, buffers.to_bytes);
    cuda_emulation::NcclTraffic& traffic = memory_known().traffic[name];
    (from || to ? traffic.registered : traffic.other) +=
        std::max(buffers.from_bytes, buffers.to_bytes);
    std::ptrdiff_t head = 0;
    if (to && buffers.to_bytes >= buffers.from_bytes) {
        head = static_cast<const char*>(buffers.to) - to->begin;
    } else if (from) {
        head = static_cast<const char*>(buffers.from) - from->begin;
    }
    return {from != nullptr, to != nullptr, head};
}

bool has_registrations(ncclComm_t comm) {
    const std::lock_guard lock(memory_known().mutex);
    const auto& registered = memory_known().registered;
    return std::any_of(registered.begin(), registered.end(),
                       [&](const auto& of) { return of.second.comm == comm; });
}

void forget_registration(ncclComm_t comm, void* handle) {
    const std::lock_guard lock(memory_known().mutex);
    const auto found = memory_known().registered.find(handle);
    if (found == memory_known().registered.end() || found->second.comm != comm) {
        fail("a registration that is unknown, of another communicator, or forgotten already");
    }
    memory_known().registered.erase(found);
}

void forget_registrations(ncclComm_t comm) {
    const std::lock_guard lock(memory_known().mutex);
    std::erase_if(memory_known().registered,
                  [&](const auto& of) { return of.second.comm == comm; });
}

}  // namespace nccl_emulation

namespace cuda_emulation {

using nccl_emulation::memory_known;

void allow_host_memory_in_nccl(bool allowed) {
    nccl_emulation::host_memory_allowed = allowed;
}

std::map<std::string, NcclTraffic> take_nccl_traffic() {
    const std::lock_guard lock(memory_known().mutex);
    return std::exchange(memory_known().traffic, {});
}

size_t nccl_registrations() {
    const std::lock_guard lock(memory_known().mutex);
    return memory_known().registered.size();
}

}  // namespace cuda_emulation

using nccl_emulation::fail;
using nccl_emulation::memory_known;

ncclResult_t ncclMemAlloc(void** memory, size_t bytes) {
    if (cudaMalloc(memory, bytes) != cudaSuccess) return ncclUnhandledCudaError;
    const std::lock_guard lock(memory_known().mutex);
    memory_known().given[static_cast<const char*>(*memory)] = bytes;
    return ncclSuccess;
}

ncclResult_t ncclMemFree(void* memory) {
    if (!memory) return ncclSuccess;
    {
        const std::lock_guard lock(memory_known().mutex);
        const auto found = memory_known().given.find(static_cast<const char*>(memory));
        if (found == memory_known().given.end()) {
            fail("ncclMemFree of what ncclMemAlloc did not give");
        }
        for (const auto& [handle, registration] : memory_known().registered) {
            const char* begin = registration.begin;
            if (begin >= found->first && begin < found->first + found->second) {
                fail("ncclMemFree of memory that is still registered");
            }
        }
        memory_known().given.erase(found);
    }
    return cudaFree(memory) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommRegister(ncclComm_t comm, void* memory, size_t bytes, void** handle) {
    const std::lock_guard lock(memory_known().mutex);
    const auto* begin = static_cast<const char*>(memory);
    const auto next = memory_known().given.upper_bound(begin);
    if (next == memory_known().given.begin() ||
        begin + bytes > std::prev(next)->first + std::prev(next)->second) {
        fail("registration of memory that is not from ncclMemAlloc");
    }
    *handle = reinterpret_cast<void*>(++memory_known().registrations);
    memory_known().registered[*handle] = {comm, begin, bytes};
    return ncclSuccess;
}
