#include "tests/model/sleeping_device.h"

#include <sys/prctl.h>

#include <chrono>
#include <thread>

namespace trireme::testing {

SleepingOps::SleepingOps(double flops_per_second) : CpuOps(1), flops_per_second_(flops_per_second) {
    // Of the thread that makes and uses this: sleeps end when they should.
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
}

void SleepingOps::sleep(double flops) const {
    if (flops_per_second_ == 0.0) return;
    std::this_thread::sleep_for(std::chrono::duration<double>(flops / flops_per_second_));
}

void SleepingOps::sleep_product(const Tensor& x, const Tensor& w) const {
    sleep(2.0 * static_cast<double>(x.rows()) * static_cast<double>(w.elements()));
}

// Each product over the half of the pairs of tokens that is not masked.
void SleepingOps::sleep_attention(const AttentionShape& shape, double products) const {
    const double pairs = 0.5 * static_cast<double>(shape.batch * shape.sequence * shape.sequence);
    sleep(products * 2.0 * pairs * shape.heads * shape.head_dim);
}

void SleepingOps::linear_forward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor&,
                                 const Tensor& y) {
    fill_zero(stream, y);
    sleep_product(x, w);
}

void SleepingOps::linear_backward_input(Stream& stream, const Tensor& dy, const Tensor& w,
                                        const Tensor& dx) {
    fill_zero(stream, dx);
    sleep_product(dy, w);
}

void SleepingOps::linear_backward_weight(Stream&, const Tensor&, const Tensor& x,
                                         const Tensor& dw) {
    sleep_product(x, dw);
}

void SleepingOps::attention_forward(Stream& stream, const AttentionShape& shape, const Tensor&,
                                    const Tensor& out, const Tensor& lse) {
    fill_zero(stream, out);
    fill_zero(stream, lse);
    sleep_attention(shape, 2.0);
}

void SleepingOps::attention_backward(Stream& stream, const AttentionShape& shape, const Tensor&,
                                     const Tensor&, const Tensor&, const Tensor&,
                                     const Tensor& dqkv) {
    fill_zero(stream, dqkv);
    sleep_attention(shape, 5.0);
}

}  // namespace trireme::testing
