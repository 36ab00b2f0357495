#include "core/cpu/attention.h"

#include <cstdint>

#include "core/cpu/attention_layout.h"
#include "core/cpu/cpu_ops.h"

namespace trireme {

CpuAttention::CpuAttention(int threads, bool amx) : threads_(threads), amx_(amx) {}

void CpuAttention::reserve(int64_t floats) {
    constexpr int64_t kPage = 1024;  // floats: threads must not share pages
    if (floats <= stride_) return;
    stride_ = attention::round_up(floats, kPage);
    scratch_.assign(static_cast<size_t>(stride_ * threads_ + kPage), 0.0f);
    const auto address = reinterpret_cast<uintptr_t>(scratch_.data()) / sizeof(float);
    align_ = static_cast<int64_t>((kPage - address % kPage) % kPage);
}

void CpuOps::attention_forward(Stream&, const AttentionShape& shape, const Tensor& qkv,
                               const Tensor& out, const Tensor& lse) {
    attention_->forward(shape, qkv, out, lse);
}

void CpuOps::attention_backward(Stream&, const AttentionShape& shape, const Tensor& dout,
                                const Tensor& qkv, const Tensor& out, const Tensor& lse,
                                const Tensor& dqkv) {
    attention_->backward(shape, dout, qkv, out, lse, dqkv);
}

}  // namespace trireme
