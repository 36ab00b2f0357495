#pragma once

#include "core/planned_device.h"
#include "core/timed_ops.h"

namespace trireme {

// A planned device on which operations take the time that they would, see TimedOps. Copies to and
// from the host take none.
class TimedDevice final : public PlannedDevice {
public:
    TimedDevice(Backend backend, const DeviceSpeed& speed, DType compute)
        : PlannedDevice(backend),
          stream_(speed.memory_bytes_per_second),
          ops_(speed, backend == Backend::cuda && compute == DType::bf16) {}

    TimedStream& compute() override { return stream_; }
    TimedOps& ops() override { return ops_; }

private:
    TimedStream stream_;
    TimedOps ops_;
};

}  // namespace trireme
