#pragma once

#include "core/cpu/cpu_device.h"

namespace trireme::testing {

// The CPU with products and attention that sleep as long as a processor of this speed would take,
// and give zeros; all else is computed. To time what goes on beside compute without needing cores.
class SleepingOps final : public CpuOps {
public:
    // 0: products and attention take no time at all.
    explicit SleepingOps(double flops_per_second);

    void linear_forward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor& bias,
                        const Tensor& y) override;
    void linear_backward_input(Stream& stream, const Tensor& dy, const Tensor& w,
                               const Tensor& dx) override;
    void linear_backward_weight(Stream& stream, const Tensor& dy, const Tensor& x,
                                const Tensor& dw) override;
    void attention_forward(Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                           const Tensor& out, const Tensor& lse) override;
    void attention_backward(Stream& stream, const AttentionShape& shape, const Tensor& dout,
                            const Tensor& qkv, const Tensor& out, const Tensor& lse,
                            const Tensor& dqkv) override;

private:
    void sleep(double flops) const;
    void sleep_product(const Tensor& x, const Tensor& w) const;
    void sleep_attention(const AttentionShape& shape, double products) const;

    const double flops_per_second_;
};

class SleepingDevice final : public CpuDevice {
public:
    explicit SleepingDevice(double flops_per_second) : CpuDevice(1), ops_(flops_per_second) {}
    Ops& ops() override { return ops_; }

private:
    SleepingOps ops_;
};

}  // namespace trireme::testing
