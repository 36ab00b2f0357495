#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"

namespace trireme {

// A device of any size whose memory has addresses and labels but no contents, to find out what a
// run will hold before it takes place: everything that is made on it takes its memory as on the
// real one. Copies and waits do nothing; there are no operations (InternalError).
class PlannedDevice : public Device {
public:
    explicit PlannedDevice(Backend backend);

    Backend backend() const override { return backend_; }
    std::string description() const override { return "a device of a plan"; }
    Stream& compute() override { return stream_; }
    Ops& ops() override;
    bool keeps_values() const override { return false; }

    void copy_to_device(void*, const void*, size_t) override {}
    void copy_to_host(void* host, const void*, size_t bytes) override;

protected:
    void* take_memory(size_t bytes, std::string& reason) override;
    void give_back_memory(void*) override {}

private:
    class PlannedStream final : public Stream {
    public:
        Event record() override { return {}; }
        void wait(const Event&) override {}
        void copy(void*, const void*, size_t) override {}
        void synchronize() override {}
    };

    const Backend backend_;
    PlannedStream stream_;
    uintptr_t next_address_;
};

}  // namespace trireme
