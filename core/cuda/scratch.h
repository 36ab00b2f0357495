#pragma once

#include <cstddef>
#include <string>

#include "core/device.h"

namespace trireme {

// Device memory that one operation uses between its own kernels. It grows while an operation meets
// a larger shape for the first time and is kept, so that nothing is allocated in steady state.
// Operations of one stream share it: each may overwrite what the one before left. What it has
// outgrown is given back when the device settles.
class Scratch {
public:
    Scratch(Device& device, std::string label) : device_(device), label_(std::move(label)) {}
    ~Scratch() { clear(); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    // At least `bytes`, 256-byte aligned; valid until the next call.
    void* reserve(size_t bytes) {
        if (bytes <= capacity_) return memory_;
        clear();
        memory_ = device_.allocate(bytes, label_);
        capacity_ = bytes;
        return memory_;
    }
    void clear() {
        if (memory_) device_.release_later(memory_);
        memory_ = nullptr;
        capacity_ = 0;
    }
    template <typename T>
    T* reserve_elements(int64_t count) {
        return static_cast<T*>(reserve(static_cast<size_t>(count) * sizeof(T)));
    }

private:
    Device& device_;
    std::string label_;
    void* memory_ = nullptr;
    size_t capacity_ = 0;
};

}  // namespace trireme
