#include "core/device.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace trireme {

namespace {

std::string size_text(size_t bytes) {
    return std::to_string(bytes) + " bytes (" + std::to_string(bytes >> 20) + " MiB)";
}

}  // namespace

void* Device::allocate(size_t bytes, const std::string& label) {
    ++memory_changes_;
    std::string reason;
    void* memory = take_memory(bytes, reason);
    if (!memory && !unused_.empty()) {
        // It may have to wait for other ranks; without it the run ends.
        Device::settle();
        memory = take_memory(bytes, reason);
    }
    if (memory) {
        allocations_[memory] = {label, bytes};
        allocated_ += bytes;
        peak_allocated_ = std::max(peak_allocated_, allocated_);
        return memory;
    }
    const std::map<std::string, size_t> held = held_bytes();
    std::vector<std::pair<std::string, size_t>> labels(held.begin(), held.end());
    std::stable_sort(labels.begin(), labels.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    std::string message = "cannot allocate " + size_text(bytes) + " of memory for '" + label +
                          "' on " + description() + ": " + reason;
    if (!labels.empty()) message += "; held so far:";
    for (const auto& [name, size] : labels) message += "\n  " + name + ": " + size_text(size);
    throw Error(ExitCode::out_of_memory, message);
}

std::map<std::string, size_t> Device::held_bytes() const {
    std::map<std::string, size_t> held;
    for (const auto& [address, allocation] : allocations_) {
        held[allocation.label] += allocation.bytes;
    }
    return held;
}

void Device::release(void* memory) {
    ++memory_changes_;
    if (const auto it = allocations_.find(memory); it != allocations_.end()) {
        allocated_ -= it->second.bytes;
        allocations_.erase(it);
    }
    give_back_memory(memory);
}

void Device::settle() {
    for (void* memory : std::exchange(unused_, {})) release(memory);
}

}  // namespace trireme
