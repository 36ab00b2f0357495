#include "app/speed_measurement.h"

#include <algorithm>
#include <array>
#include <functional>

#include "core/arena.h"
#include "core/clock.h"

namespace trireme {

namespace {

constexpr size_t kRepeats = 9;
// More than caches hold.
constexpr int64_t kCopiedElements = int64_t{1} << 24;     // f32: 64 MiB
constexpr int64_t kGpuCopiedElements = int64_t{1} << 28;  // f32: 1 GiB
constexpr int64_t kSentElements = int64_t{1} << 24;       // f32: 64 MiB
constexpr int kSmallOperations = 200;

// The median of the repeats, after one that warms up.
double usual_seconds(Device& device, const std::function<void()>& work) {
    std::array<double, kRepeats> seconds{};
    work();
    for (double& one : seconds) {
        device.compute().synchronize();
        const auto begin = std::chrono::steady_clock::now();
        work();
        device.compute().synchronize();
        one = seconds_since(begin);
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[kRepeats / 2];
}

// The three products of a layer, forward and backward.
double measure_product_rate(Device& device, DType type) {
    const int64_t size = device.backend() == Backend::cuda ? 8192 : 1024;
    Tensor x, w, y, dw;
    const Arena arena = make_arena(device, "rate measurement", [&](Arena& a) {
        x = a.take(type, {size, size});
        w = a.take(type, {size, size});
        y = a.take(type, {size, size});
        dw = a.take(DType::f32, {size, size});
    });
    const double seconds = usual_seconds(device, [&] {
        device.ops().linear_forward(device.compute(), x, w, Tensor(), y);
        device.ops().linear_backward_input(device.compute(), y, w, x);
        device.ops().linear_backward_weight(device.compute(), y, x, dw);
    });
    const double n = static_cast<double>(size);
    return 3.0 * 2.0 * n * n * n / seconds;
}

double measure_attention_rate(Device& device, DType type) {
    const bool is_gpu = device.backend() == Backend::cuda;
    AttentionShape shape;
    shape.batch = is_gpu ? 4 : 1;
    shape.sequence = is_gpu ? 4096 : 1024;
    shape.heads = shape.kv_heads = shape.heads_global = is_gpu ? 16 : 4;
    shape.head_dim = is_gpu ? 128 : 64;
    shape.scale = 0.1f;
    const int64_t width = int64_t{shape.heads} * shape.head_dim;
    Tensor qkv, out, lse, dout, dqkv;
    const Arena arena = make_arena(device, "rate measurement", [&](Arena& a) {
        qkv = a.take(type, {shape.batch, shape.sequence, 3 * width});
        dqkv = a.take(type, {shape.batch, shape.sequence, 3 * width});
        out = a.take(type, {shape.batch, shape.sequence, width});
        dout = a.take(type, {shape.batch, shape.sequence, width});
        lse = a.take(DType::f32, {shape.batch, shape.heads, shape.sequence});
    });
    const double seconds = usual_seconds(device, [&] {
        device.ops().attention_forward(device.compute(), shape, qkv, out, lse);
        device.ops().attention_backward(device.compute(), shape, dout, qkv, out, lse, dqkv);
    });
    const double n = static_cast<double>(shape.sequence);
    return (2.0 + 5.0) * static_cast<double>(shape.batch * width) * n * n / seconds;
}

double measure_copy_rate(Device& device) {
    const bool is_gpu = device.backend() == Backend::cuda;
    const int64_t elements = is_gpu ? kGpuCopiedElements : kCopiedElements;
    Tensor from, to;
    const Arena arena = make_arena(device, "rate measurement", [&](Arena& a) {
        from = a.take(DType::f32, {elements});
        to = a.take(DType::f32, {elements});
    });
    const double seconds =
        usual_seconds(device, [&] { device.ops().copy(device.compute(), from, to); });
    return 2.0 * static_cast<double>(from.bytes()) / seconds;
}

double measure_operation(Device& device) {
    Tensor x;
    const Arena arena =
        make_arena(device, "rate measurement", [&](Arena& a) { x = a.take(DType::f32, {64}); });
    return usual_seconds(device,
                         [&] {
                             for (int i = 0; i < kSmallOperations; ++i) {
                                 device.ops().fill_zero(device.compute(), x);
                             }
                         }) /
           kSmallOperations;
}

// A gather and a reduction of the group move as much as an all-reduce.
double ring_seconds(Device& device, Communicator& group, const Tensor& whole) {
    const Tensor shard = whole.flat_range(whole.elements() / group.size() * group.rank(),
                                          whole.elements() / group.size());
    return usual_seconds(device, [&] {
        Stream& stream = device.compute();
        stream.wait(group.reduce_scatter(stream, whole, shard, "rate measurement"));
        stream.wait(group.all_gather(stream, shard, whole, "rate measurement"));
    });
}

LinkSpeed measure_link(Device& device, Communicator& group) {
    const int n = group.size();
    if (n == 1) return {};
    Tensor large, small;
    const Arena arena = make_arena(device, "rate measurement", [&](Arena& a) {
        large = a.take(DType::f32, {kSentElements / n * n});
        small = a.take(DType::f32, {n});
    });
    group.register_memory(arena.memory());
    const double latency = ring_seconds(device, group, small);
    const double seconds = std::max(ring_seconds(device, group, large) - latency, 1e-9);
    const double moved = ring_bytes(Collective::all_reduce, n, static_cast<double>(large.bytes()));
    return {moved / seconds, latency / tree_steps(Collective::all_reduce, n)};
}

}  // namespace

DeviceSpeed measure_device(Device& device) {
    DeviceSpeed speed;
    for (const DType type : {DType::f32, DType::bf16}) {
        DeviceSpeed::Rates& rates = type == DType::bf16 ? speed.bf16 : speed.f32;
        rates.matmul = measure_product_rate(device, type);
        rates.attention = measure_attention_rate(device, type);
    }
    speed.memory_bytes_per_second = measure_copy_rate(device);
    speed.operation_seconds = measure_operation(device);
    return speed;
}

ClusterLinks measure_links(World& device_world, Device& device) {
    const int per_node = device_world.local_size(), rank = device_world.rank();
    const auto in_node = device_world.split(rank / per_node, rank, "tensor");
    const auto between_nodes = device_world.split(rank % per_node, rank, "data");
    ClusterLinks links{.devices_per_node = per_node, .node = {}, .network = {}};
    links.node = measure_link(device, *in_node);
    links.network = measure_link(device, *between_nodes);
    return links;
}

}  // namespace trireme
