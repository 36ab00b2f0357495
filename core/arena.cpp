#include "core/arena.h"

#include <utility>

namespace trireme {

namespace {
constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
}  // namespace

Arena Arena::measuring(std::string label) {
    return Arena(std::move(label));
}

Arena::Arena(Device& device, std::string label, size_t capacity_bytes)
    : device_(&device), label_(std::move(label)), capacity_(aligned(capacity_bytes)) {
    if (capacity_ > 0) memory_ = static_cast<char*>(device.allocate(capacity_, label_));
}

Arena::~Arena() {
    if (memory_) device_->release(memory_);
}

Arena::Arena(Arena&& other) noexcept
    : device_(other.device_),
      label_(std::move(other.label_)),
      memory_(std::exchange(other.memory_, nullptr)),
      capacity_(other.capacity_),
      used_(other.used_) {}

Tensor Arena::take(DType dtype, Shape shape) {
    Tensor tensor(nullptr, dtype, shape);
    const size_t bytes = aligned(tensor.bytes());
    if (!is_measuring()) {
        if (used_ + bytes > capacity_) {
            throw InternalError("arena '" + label_ + "' is full: " + std::to_string(used_) +
                                " of " + std::to_string(capacity_) + " bytes used, " +
                                std::to_string(bytes) + " more asked; please report this");
        }
        tensor.data = memory_ + used_;
    }
    used_ += bytes;
    return tensor;
}

Tensor Arena::memory() const {
    if (!memory_) return {};
    return Tensor(memory_, DType::u8, {static_cast<int64_t>(capacity_)});
}

}  // namespace trireme
