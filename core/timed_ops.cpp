#include "core/timed_ops.h"

#include <algorithm>

namespace trireme {

TimedOps::TimedOps(const DeviceSpeed& speed, bool fuses_gelu)
    : speed_(speed), fuses_gelu_(fuses_gelu) {}

double TimedOps::work(Stream& stream, double flop_seconds, std::initializer_list<Pass> passes) {
    double bytes = 0.0;
    for (const Pass& pass : passes) bytes += static_cast<double>(pass.tensor.bytes()) * pass.times;
    const double seconds =
        std::max({speed_.operation_seconds, flop_seconds, bytes / speed_.memory_bytes_per_second});
    static_cast<TimedStream&>(stream).work(seconds);
    return seconds;
}

void TimedOps::move(Stream& stream, std::initializer_list<Pass> passes) {
    work(stream, 0.0, passes);
}

// `result` elements of sums over `inner` products each; the type is that of `factor`.
void TimedOps::multiply(Stream& stream, const Tensor& result, int64_t inner, const Tensor& factor,
                        std::initializer_list<Pass> passes) {
    const double flops = 2.0 * static_cast<double>(result.elements()) * static_cast<double>(inner);
    matmul_seconds_ += work(stream, flops / speed_.of(factor.dtype).matmul, passes);
}

// `products`: matrix products of queries with keys, or as large, each counted half.
void TimedOps::attend(Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                      double products, std::initializer_list<Pass> passes) {
    const double sequence = static_cast<double>(shape.sequence);
    const double flops = products * static_cast<double>(shape.batch * shape.heads) * sequence *
                         sequence * shape.head_dim;
    attention_seconds_ += work(stream, flops / speed_.of(qkv.dtype).attention, passes);
}

void TimedOps::linear_forward(Stream& stream, const Tensor& x, const Tensor& w, const Tensor&,
                              const Tensor& y) {
    multiply(stream, y, x.cols(), x, {{x}, {w}, {y}});
}
void TimedOps::linear_backward_input(Stream& stream, const Tensor& dy, const Tensor& w,
                                     const Tensor& dx) {
    multiply(stream, dx, dy.cols(), dy, {{dy}, {w}, {dx}});
}
void TimedOps::linear_backward_weight(Stream& stream, const Tensor& dy, const Tensor& x,
                                      const Tensor& dw) {
    multiply(stream, dw, dy.rows(), dy, {{dy}, {x}, {dw, 2.0}});
}
void TimedOps::bias_backward(Stream& stream, const Tensor& dy, const Tensor&) {
    move(stream, {{dy}});
}
void TimedOps::linear_gelu_forward(Stream& stream, const Tensor& x, const Tensor& w,
                                   const Tensor& bias, const Tensor& pre, const Tensor& y) {
    if (!fuses_gelu_) return Ops::linear_gelu_forward(stream, x, w, bias, pre, y);
    multiply(stream, y, x.cols(), x, {{x}, {w}, {pre}, {y}});
}
void TimedOps::linear_gelu_backward_input(Stream& stream, const Tensor& dy, const Tensor& w,
                                          const Tensor& pre, const Tensor& dx) {
    if (!fuses_gelu_) return Ops::linear_gelu_backward_input(stream, dy, w, pre, dx);
    multiply(stream, dx, dy.cols(), dy, {{dy}, {w}, {pre}, {dx}});
}

// Scores and their product with the values.
void TimedOps::attention_forward(Stream& stream, const AttentionShape& shape, const Tensor& qkv,
                                 const Tensor& out, const Tensor& lse) {
    attend(stream, shape, qkv, 2.0, {{qkv}, {out}, {lse}});
}
// Scores again, and the gradients of probabilities, values, queries and keys.
void TimedOps::attention_backward(Stream& stream, const AttentionShape& shape, const Tensor& dout,
                                  const Tensor& qkv, const Tensor& out, const Tensor& lse,
                                  const Tensor& dqkv) {
    attend(stream, shape, qkv, 5.0, {{dout}, {qkv}, {out}, {lse}, {dqkv}});
}

void TimedOps::rope_forward(Stream& stream, const Tensor& qkv, const Tensor&, int heads,
                            int kv_heads, int) {
    const double turned = static_cast<double>(heads + kv_heads) / (heads + 2 * kv_heads);
    move(stream, {{qkv, 2.0 * turned}});
}
void TimedOps::rope_backward(Stream& stream, const Tensor& dqkv, const Tensor& cos_sin, int heads,
                             int kv_heads, int head_dim) {
    rope_forward(stream, dqkv, cos_sin, heads, kv_heads, head_dim);
}
void TimedOps::head_norm_forward(Stream& stream, const Tensor& qkv, const Tensor&, const Tensor&,
                                 float, int, int, const Tensor& out) {
    move(stream, {{qkv}, {out}});
}
void TimedOps::head_norm_backward(Stream& stream, const Tensor& qkv, const Tensor&, const Tensor&,
                                  float, int, int, const Tensor& dqkv, const Tensor&,
                                  const Tensor&) {
    move(stream, {{qkv}, {dqkv, 2.0}});
}
void TimedOps::split_heads(Stream& stream, const HeadParts&, const Tensor& rows,
                           const Tensor& parts) {
    move(stream, {{rows}, {parts}});
}
void TimedOps::join_heads(Stream& stream, const HeadParts&, const Tensor& parts,
                          const Tensor& rows) {
    move(stream, {{parts}, {rows}});
}

void TimedOps::layer_norm_forward(Stream& stream, const Tensor& x, const Tensor&, const Tensor&,
                                  float, const Tensor& y, const Tensor&, const Tensor&) {
    move(stream, {{x}, {y}});
}
void TimedOps::layer_norm_backward(Stream& stream, const Tensor& dy, const Tensor& x, const Tensor&,
                                   const Tensor&, const Tensor&, const Tensor& dx, const Tensor&,
                                   const Tensor&) {
    move(stream, {{dy}, {x}, {dx, 2.0}});
}
void TimedOps::rms_norm_forward(Stream& stream, const Tensor& x, const Tensor&, float,
                                const Tensor& y, const Tensor&) {
    move(stream, {{x}, {y}});
}
void TimedOps::rms_norm_backward(Stream& stream, const Tensor& dy, const Tensor& x, const Tensor&,
                                 const Tensor&, const Tensor& dx, const Tensor&) {
    move(stream, {{dy}, {x}, {dx, 2.0}});
}

void TimedOps::gelu_forward(Stream& stream, const Tensor& x, const Tensor& y) {
    move(stream, {{x}, {y}});
}
void TimedOps::gelu_backward(Stream& stream, const Tensor& dy, const Tensor& x, const Tensor& dx) {
    move(stream, {{dy}, {x}, {dx}});
}
void TimedOps::swiglu_forward(Stream& stream, const Tensor& gate_up, const Tensor& y) {
    move(stream, {{gate_up}, {y}});
}
void TimedOps::swiglu_backward(Stream& stream, const Tensor& dy, const Tensor& gate_up,
                               const Tensor& dgate_up) {
    move(stream, {{dy}, {gate_up}, {dgate_up}});
}

void TimedOps::residual_add_forward(Stream& stream, const ResidualAdd& add) {
    move(stream, {{add.residual}, {add.y}, {add.out}});
}
void TimedOps::residual_add_layer_norm_forward(Stream& stream, const ResidualAdd& add,
                                               const Tensor&, const Tensor&, float, const Tensor& y,
                                               const Tensor&, const Tensor&) {
    move(stream, {{add.residual}, {add.y}, {add.out}, {y}});
}
void TimedOps::residual_add_rms_norm_forward(Stream& stream, const ResidualAdd& add, const Tensor&,
                                             float, const Tensor& y, const Tensor&) {
    move(stream, {{add.residual}, {add.y}, {add.out}, {y}});
}
void TimedOps::dropout_apply(Stream& stream, const Tensor& dout, const Dropout&, const Tensor& dy) {
    move(stream, {{dout}, {dy}});
}

// A row of the table for each token.
void TimedOps::embedding_forward(Stream& stream, const Tensor& ids, const Tensor&, int64_t,
                                 const Tensor& y) {
    move(stream, {{ids}, {y, 2.0}});
}
void TimedOps::embedding_backward(Stream& stream, const Tensor& dy, const Tensor& ids, int64_t,
                                  const Tensor&) {
    move(stream, {{ids}, {dy, 3.0}});
}
void TimedOps::position_forward(Stream& stream, const Tensor&, int64_t, int64_t, const Tensor&,
                                const Tensor& y) {
    move(stream, {{y, 3.0}});
}
void TimedOps::position_backward(Stream& stream, const Tensor& dy, int64_t, int64_t, const Tensor&,
                                 const Tensor&) {
    move(stream, {{dy, 3.0}});
}

void TimedOps::cross_entropy_max(Stream& stream, const Tensor& logits, int64_t, const Tensor&) {
    move(stream, {{logits}});
}
void TimedOps::cross_entropy_exp(Stream& stream, const Tensor& logits, int64_t, const Tensor&,
                                 const Tensor&, int64_t, const Tensor&) {
    move(stream, {{logits, 2.0}});
}
void TimedOps::cross_entropy_finish(Stream& stream, const Tensor& exp_logits, int64_t,
                                    const Tensor&, int64_t, const Tensor&, float,
                                    const Tensor& losses, const Tensor& dlogits) {
    if (dlogits) {
        move(stream, {{exp_logits}, {dlogits}});
    } else {
        move(stream, {{losses}});
    }
}

void TimedOps::fill_zero(Stream& stream, const Tensor& x) {
    move(stream, {{x}});
}
void TimedOps::copy(Stream& stream, const Tensor& from, const Tensor& to) {
    move(stream, {{from}, {to}});
}
void TimedOps::add(Stream& stream, const Tensor& x, const Tensor& y) {
    move(stream, {{x}, {y, 2.0}});
}
void TimedOps::add_sum(Stream& stream, const Tensor& x, const Tensor&) {
    move(stream, {{x}});
}
void TimedOps::add_squared_norm(Stream& stream, const Tensor& x, const Tensor&) {
    move(stream, {{x}});
}
void TimedOps::clip_scale(Stream& stream, const Tensor&, float, const Tensor& scale) {
    move(stream, {{scale}});
}
void TimedOps::adamw(Stream& stream, const AdamWStep&, const Tensor& grad, const Tensor&,
                     const Tensor& master, const Tensor& m, const Tensor& v, const Tensor& param) {
    const bool is_apart = param.data != master.data;
    move(stream, {{grad}, {master, 2.0}, {m, 2.0}, {v, 2.0}, {param, is_apart ? 1.0 : 0.0}});
}

}  // namespace trireme
