#include "app/fault_injection.h"

#include <cmath>
#include <limits>

namespace trireme {

namespace {

constexpr uint8_t kMantissaBit = 0x10;  // of an f32's third byte, a bf16's first: not the sign, not
                                        // the exponent

void poison(Device& device, const Tensor& gradient) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    device.copy_to_device(gradient.data, &nan, sizeof(nan));
    device.compute().synchronize();
}

void flip_bit(Device& device, const Tensor& value) {
    std::byte element[8];
    device.copy_to_host(element, value.data, size_of(value.dtype));
    device.compute().synchronize();
    element[value.dtype == DType::f32 ? 2 : 0] ^= std::byte{kMantissaBit};
    device.copy_to_device(value.data, element, size_of(value.dtype));
    device.compute().synchronize();
}

// Where the parameter begins in the store's buffers of this rank.
const FlatLayout::Range* place_of(const ParameterStore& store, const std::string& tensor,
                                  FlatLayout::Range& place) {
    const FlatLayout::Range* found = nullptr;
    for_each_segment(store.layout(), store.specs(), store.held_shard(),
                     [&](const FlatSegment& segment) {
                         const size_t i = static_cast<size_t>(segment.parameter);
                         if (found || store.specs()[i].name != tensor) return;
                         place = segment.compact;
                         found = &place;
                     });
    return found;
}

void inject(const FaultOptions& fault, Engine& engine) {
    for (auto& chunk : engine.model().chunks()) {
        const ParameterStore& store = chunk->store();
        FlatLayout::Range range;
        if (!place_of(store, fault.tensor, range)) continue;
        if (fault.action == FaultAction::flip_bit) {
            store.wait_parameters();
            return flip_bit(engine.device(), store.parameters().flat_range(range.begin, 1));
        }
        // With sharded gradients there is no place for a gradient of its own before the sum.
        if (!store.shards_gradients()) {
            return poison(engine.device(), store.gradients().flat_range(range.begin, 1));
        }
    }
    throw Error(ExitCode::config, "testing.faults: rank " + std::to_string(fault.rank) +
                                      " has no place for this fault in tensor '" + fault.tensor +
                                      "'; `trireme inspect` lists the names of a checkpoint");
}

}  // namespace

void inject_faults(const std::vector<FaultOptions>& faults, int rank, int64_t step,
                   Engine& engine) {
    for (const FaultOptions& fault : faults) {
        if (fault.rank == rank && fault.step == step) inject(fault, engine);
    }
}

}  // namespace trireme
