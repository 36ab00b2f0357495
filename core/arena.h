#pragma once

#include <cstddef>
#include <string>

#include "core/device.h"
#include "core/tensor.h"

namespace trireme {

// Labelled memory, taken from the device once and handed out piece by piece. Two ways to make one:
//   measuring: hands out tensors without memory and counts the bytes, so that the code that will
//              allocate also plans;
//   real:      takes `capacity` bytes and hands out views of them.
// Views live until the arena dies. Not thread-safe.
class Arena {
public:
    static Arena measuring(std::string label);
    Arena(Device& device, std::string label, size_t capacity_bytes);
    ~Arena();
    Arena(Arena&& other) noexcept;
    Arena& operator=(Arena&&) = delete;
    Arena(const Arena&) = delete;

    // 64-byte aligned. Throws InternalError when the arena is full: planning and use disagree.
    Tensor take(DType dtype, Shape shape);

    // All of it, as bytes; absent where there is none.
    Tensor memory() const;

    size_t used_bytes() const { return used_; }
    const std::string& label() const { return label_; }
    bool is_measuring() const { return device_ == nullptr; }

private:
    explicit Arena(std::string label) : label_(std::move(label)) {}

    Device* device_ = nullptr;
    std::string label_;
    char* memory_ = nullptr;
    size_t capacity_ = 0;
    size_t used_ = 0;
};

// Measures what `take(arena)` takes, then takes it for real: an arena of exactly that size.
template <typename Take>
Arena make_arena(Device& device, const std::string& label, const Take& take) {
    Arena plan = Arena::measuring(label);
    take(plan);
    Arena arena(device, label, plan.used_bytes());
    take(arena);
    return arena;
}

}  // namespace trireme
