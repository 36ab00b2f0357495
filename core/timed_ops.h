#pragma once

#include <initializer_list>

#include "core/ops.h"
#include "core/timed_stream.h"

namespace trireme {

// What a device reaches, for estimates: measured rates of large operations, not those of a data
// sheet.
struct DeviceSpeed {
    struct Rates {
        double matmul = 0.0;     // FLOP/s of a large matrix product
        double attention = 0.0;  // FLOP/s of causal attention, counted half, backward 2.5 times
                                 // forward
    };
    Rates f32, bf16;
    double memory_bytes_per_second = 0.0;  // read and written bytes added
    double operation_seconds = 0.0;        // the least that an operation takes

    const Rates& of(DType type) const { return type == DType::bf16 ? bf16 : f32; }
};

// Operations that move a TimedStream's time on instead of computing: by the larger of their FLOPs
// over the rate for them and the bytes they must read and write over the memory's rate (Williams
// et al. 2009, roofline), and not by less than operation_seconds. Sizes are not checked.
class TimedOps final : public Ops {
public:
    // fuses_gelu: GELU and its backward take part in the product beside them, as on a GPU in bf16.
    TimedOps(const DeviceSpeed& speed, bool fuses_gelu);

    // So far. All else that took time is neither.
    double matmul_seconds() const { return matmul_seconds_; }
    double attention_seconds() const { return attention_seconds_; }

    void linear_forward(Stream&, const Tensor& x, const Tensor& w, const Tensor& bias,
                        const Tensor& y) override;
    void linear_backward_input(Stream&, const Tensor& dy, const Tensor& w,
                               const Tensor& dx) override;
    void linear_backward_weight(Stream&, const Tensor& dy, const Tensor& x,
                                const Tensor& dw) override;
    void bias_backward(Stream&, const Tensor& dy, const Tensor& db) override;
    void linear_gelu_forward(Stream&, const Tensor& x, const Tensor& w, const Tensor& bias,
                             const Tensor& pre, const Tensor& y) override;
    void linear_gelu_backward_input(Stream&, const Tensor& dy, const Tensor& w, const Tensor& pre,
                                    const Tensor& dx) override;
    void attention_forward(Stream&, const AttentionShape&, const Tensor& qkv, const Tensor& out,
                           const Tensor& lse) override;
    void attention_backward(Stream&, const AttentionShape&, const Tensor& dout, const Tensor& qkv,
                            const Tensor& out, const Tensor& lse, const Tensor& dqkv) override;
    void rope_forward(Stream&, const Tensor& qkv, const Tensor& cos_sin, int heads, int kv_heads,
                      int head_dim) override;
    void rope_backward(Stream&, const Tensor& dqkv, const Tensor& cos_sin, int heads, int kv_heads,
                       int head_dim) override;
    void head_norm_forward(Stream&, const Tensor& qkv, const Tensor& query_weight,
                           const Tensor& key_weight, float eps, int heads, int kv_heads,
                           const Tensor& out) override;
    void head_norm_backward(Stream&, const Tensor& qkv, const Tensor& query_weight,
                            const Tensor& key_weight, float eps, int heads, int kv_heads,
                            const Tensor& dqkv, const Tensor& dquery_weight,
                            const Tensor& dkey_weight) override;
    void split_heads(Stream&, const HeadParts&, const Tensor& rows, const Tensor& parts) override;
    void join_heads(Stream&, const HeadParts&, const Tensor& parts, const Tensor& rows) override;
    void layer_norm_forward(Stream&, const Tensor& x, const Tensor& weight, const Tensor& bias,
                            float eps, const Tensor& y, const Tensor& mean,
                            const Tensor& rstd) override;
    void layer_norm_backward(Stream&, const Tensor& dy, const Tensor& x, const Tensor& weight,
                             const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                             const Tensor& dweight, const Tensor& dbias) override;
    void rms_norm_forward(Stream&, const Tensor& x, const Tensor& weight, float eps,
                          const Tensor& y, const Tensor& rstd) override;
    void rms_norm_backward(Stream&, const Tensor& dy, const Tensor& x, const Tensor& weight,
                           const Tensor& rstd, const Tensor& dx, const Tensor& dweight) override;
    void gelu_forward(Stream&, const Tensor& x, const Tensor& y) override;
    void gelu_backward(Stream&, const Tensor& dy, const Tensor& x, const Tensor& dx) override;
    void swiglu_forward(Stream&, const Tensor& gate_up, const Tensor& y) override;
    void swiglu_backward(Stream&, const Tensor& dy, const Tensor& gate_up,
                         const Tensor& dgate_up) override;
    void residual_add_forward(Stream&, const ResidualAdd& add) override;
    void residual_add_layer_norm_forward(Stream&, const ResidualAdd& add, const Tensor& weight,
                                         const Tensor& bias, float eps, const Tensor& y,
                                         const Tensor& mean, const Tensor& rstd) override;
    void residual_add_rms_norm_forward(Stream&, const ResidualAdd& add, const Tensor& weight,
                                       float eps, const Tensor& y, const Tensor& rstd) override;
    void dropout_apply(Stream&, const Tensor& dout, const Dropout& dropout,
                       const Tensor& dy) override;
    void embedding_forward(Stream&, const Tensor& ids, const Tensor& table, int64_t first_row,
                           const Tensor& y) override;
    void embedding_backward(Stream&, const Tensor& dy, const Tensor& ids, int64_t first_row,
                            const Tensor& dtable) override;
    void position_forward(Stream&, const Tensor& table, int64_t first_token, int64_t sequence,
                          const Tensor& document_begin, const Tensor& y) override;
    void position_backward(Stream&, const Tensor& dy, int64_t first_token, int64_t sequence,
                           const Tensor& document_begin, const Tensor& dtable) override;
    void cross_entropy_max(Stream&, const Tensor& logits, int64_t valid_cols,
                           const Tensor& row_max) override;
    void cross_entropy_exp(Stream&, const Tensor& logits, int64_t valid_cols, const Tensor& row_max,
                           const Tensor& labels, int64_t first_row, const Tensor& sums) override;
    void cross_entropy_finish(Stream&, const Tensor& exp_logits, int64_t valid_cols,
                              const Tensor& labels, int64_t first_row, const Tensor& sums,
                              float scale, const Tensor& losses, const Tensor& dlogits) override;
    void fill_zero(Stream&, const Tensor& x) override;
    void copy(Stream&, const Tensor& from, const Tensor& to) override;
    void add(Stream&, const Tensor& x, const Tensor& y) override;
    void add_sum(Stream&, const Tensor& x, const Tensor& total) override;
    void add_squared_norm(Stream&, const Tensor& x, const Tensor& total) override;
    void clip_scale(Stream&, const Tensor& squared_norm, float max_norm,
                    const Tensor& scale) override;
    void adamw(Stream&, const AdamWStep&, const Tensor& grad, const Tensor& grad_scale,
               const Tensor& master, const Tensor& m, const Tensor& v,
               const Tensor& param) override;

private:
    // A tensor that an operation goes through this many times.
    struct Pass {
        const Tensor& tensor;
        double times = 1.0;
    };

    double work(Stream& stream, double flop_seconds, std::initializer_list<Pass> passes);
    void move(Stream& stream, std::initializer_list<Pass> passes);
    void multiply(Stream& stream, const Tensor& result, int64_t inner, const Tensor& factor,
                  std::initializer_list<Pass> passes);
    void attend(Stream& stream, const AttentionShape& shape, const Tensor& qkv, double products,
                std::initializer_list<Pass> passes);

    const DeviceSpeed speed_;
    const bool fuses_gelu_;
    double matmul_seconds_ = 0.0, attention_seconds_ = 0.0;
};

}  // namespace trireme
