#include "core/timed_device.h"

#include <catch2/catch.hpp>

namespace trireme::test {

namespace {

// Powers of two, so that sums are exact.
constexpr DeviceSpeed kSpeed{.f32 = {.matmul = 1024.0, .attention = 512.0},
                             .bf16 = {.matmul = 4096.0, .attention = 2048.0},
                             .memory_bytes_per_second = 256.0,
                             .operation_seconds = 0.5};

Tensor planned(DType type, Shape shape) {
    return {nullptr, type, shape};
}

// What the work takes on a device of this speed.
template <typename Work>
double seconds_of(const DeviceSpeed& speed, const Work& work) {
    TimedDevice device(Backend::cuda, speed, DType::bf16);
    work(device.ops(), device.compute());
    CHECK(device.compute().busy_seconds() == device.compute().now());
    return device.compute().now();
}

}  // namespace

TEST_CASE("a product takes its arithmetic, its memory or the least time, whichever is longest",
          "[core][timed]") {
    const auto product = [](DType type, int64_t n, int64_t k, int64_t m) {
        return [=](Ops& ops, Stream& stream) {
            ops.linear_forward(stream, planned(type, {n, k}), planned(type, {m, k}), Tensor(),
                               planned(type, {n, m}));
        };
    };
    CHECK(seconds_of(kSpeed, product(DType::f32, 64, 64, 64)) == 2.0 * 64 * 64 * 64 / 1024);
    CHECK(seconds_of(kSpeed, product(DType::bf16, 64, 64, 64)) == 2.0 * 64 * 64 * 64 / 4096);
    // One row: its weights have to be read.
    CHECK(seconds_of(kSpeed, product(DType::f32, 1, 64, 64)) == 4.0 * (64 + 64 * 64 + 64) / 256);
    CHECK(seconds_of(kSpeed, product(DType::f32, 1, 2, 2)) == 0.5);
}

TEST_CASE("backward takes a product each for input and weights", "[core][timed]") {
    const Tensor dy = planned(DType::f32, {32, 48}), w = planned(DType::f32, {48, 80}),
                 x = planned(DType::f32, {32, 80});
    const double one = 2.0 * 32 * 48 * 80 / 1024;
    CHECK(seconds_of(kSpeed, [&](Ops& ops, Stream& stream) {
              ops.linear_backward_input(stream, dy, w, x);
              ops.linear_backward_weight(stream, dy, x, planned(DType::f32, {48, 80}));
          }) == 2 * one);
}

TEST_CASE("attention counts its causal half, and backward two and a half times forward",
          "[core][timed]") {
    AttentionShape shape;
    shape.batch = 2;
    shape.sequence = 64;
    shape.heads = 6;
    shape.kv_heads = 2;
    shape.head_dim = 16;
    const Tensor qkv = planned(DType::bf16, {2, 64, 10 * 16}),
                 out = planned(DType::bf16, {2, 64, 6 * 16}), lse = planned(DType::f32, {2, 6, 64});
    TimedDevice device(Backend::cuda, kSpeed, DType::bf16);
    device.ops().attention_forward(device.compute(), shape, qkv, out, lse);
    const double forward = device.ops().attention_seconds();
    // Two products of 64 x 64 x 16 for each head, half of each.
    CHECK(forward == 2.0 * 6 * (2 * 2.0 * 64 * 64 * 16 / 2) / 2048);
    device.ops().attention_backward(device.compute(), shape, out, qkv, out, lse, qkv);
    CHECK(device.ops().attention_seconds() == 3.5 * forward);
    CHECK(device.ops().matmul_seconds() == 0.0);
    CHECK(device.compute().now() == 3.5 * forward);
}

TEST_CASE("an activation beside a product costs what the back end cannot put into it",
          "[core][timed]") {
    const Tensor x = planned(DType::bf16, {128, 64}), w = planned(DType::bf16, {64, 64});
    const auto layer = [&](Backend backend, DType compute) {
        TimedDevice device(backend, kSpeed, compute);
        device.ops().linear_gelu_forward(device.compute(), x, w, Tensor(), x, x);
        device.ops().linear_gelu_backward_input(device.compute(), x, w, x, x);
        return device.compute().now();
    };
    const double fused = layer(Backend::cuda, DType::bf16);
    const double elements = 128 * 64;
    CHECK(fused == 2 * 2.0 * elements * 64 / 4096);
    // One pass reads and writes, the other reads two tensors.
    CHECK(layer(Backend::cpu, DType::bf16) == fused + 2 * elements * (2 + 3) / 256);
    CHECK(layer(Backend::cuda, DType::f32) == layer(Backend::cpu, DType::bf16));
}

TEST_CASE("a stream stands still until what it waits for is done", "[core][timed]") {
    TimedStream compute(256.0), other(256.0);
    other.work(3.0);
    const Event later = other.record();
    compute.work(1.0);
    WaitAccount waits;
    later.source->put_waits_down_to(&waits);
    compute.wait(later);
    CHECK(waits.seconds == 2.0);
    CHECK(compute.now() == 3.0);
    compute.wait(later);
    compute.wait({});
    compute.copy(nullptr, nullptr, 128);
    CHECK(compute.now() == 4.0);
    CHECK(compute.busy_seconds() == 2.0);
}

}  // namespace trireme::test
