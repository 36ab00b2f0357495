#include "app/cluster_file.h"

#include <cstdlib>

#include "core/error.h"

// A description that is accepted has devices, and speeds that a time can be divided by.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace trireme;
    const std::string text(reinterpret_cast<const char*>(data), size);
    try {
        const Cluster cluster = parse_cluster(text, "text", DType::f32);
        const DeviceSpeed& device = cluster.device;
        const bool has_speed = device.f32.matmul > 0.0 && device.f32.attention > 0.0 &&
                               device.memory_bytes_per_second > 0.0 && cluster.peak_f32 > 0.0 &&
                               device.operation_seconds >= 0.0;
        if (!has_speed || cluster.devices() < 1) std::abort();
    } catch (const InternalError&) {
        std::abort();
    } catch (const Error& error) {
        if (error.code() != ExitCode::config) std::abort();
    }
    return 0;
}
