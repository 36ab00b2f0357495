#include "core/planned_device.h"

#include <cstring>

#include "core/error.h"

namespace trireme {

namespace {

// Far from what a process has mapped, so that whoever reads or writes there fails at once.
constexpr uintptr_t kFirstAddress = uintptr_t{1} << 56;
constexpr size_t kAlignment = 4096;

}  // namespace

PlannedDevice::PlannedDevice(Backend backend) : backend_(backend), next_address_(kFirstAddress) {}

Ops& PlannedDevice::ops() {
    throw InternalError("an operation on a device of a plan");
}

void PlannedDevice::copy_to_host(void* host, const void*, size_t bytes) {
    if (bytes > 0) std::memset(host, 0, bytes);
}

void* PlannedDevice::take_memory(size_t bytes, std::string&) {
    void* memory = reinterpret_cast<void*>(next_address_);
    next_address_ += (bytes / kAlignment + 1) * kAlignment;
    return memory;
}

}  // namespace trireme
