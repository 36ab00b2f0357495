#pragma once

#include <memory>

#include "core/cuda/scratch.h"
#include "core/ops.h"

namespace trireme {

class CudaDevice;
class CudaMatmul;
class CudnnAttention;

struct CudaOpsOptions {
    // Measure a few matmul algorithms at the first use of each shape and keep the fastest, instead
    // of the one that cuBLASLt holds for best. Two runs may then choose differently, and so differ
    // in the last bits.
    bool tune_matmul = false;
    // Only operations that give the same bits in every run: the attention backward of cuDNN is
    // not one of them and gives way to our own, slower one.
    bool deterministic = false;
};

// The operations on a GPU: cuBLASLt for matmul, cuDNN for attention where it applies, own kernels
// for the rest. Each group of operations has a source file of its own. Everything is enqueued on
// the device's compute stream, from one host thread.
class CudaOps final : public Ops {
public:
    CudaOps(CudaDevice& device, const CudaOpsOptions& options);
    ~CudaOps() override;

    CudaMatmul& matmul() { return *matmul_; }

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
    void linear_backward_weight_bias(Stream&, const Tensor& dy, const Tensor& x, const Tensor& dw,
                                     const Tensor& db) override;
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
    void dropout_apply(Stream&, const Tensor& dout, const Dropout&, const Tensor& dy) override;
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
    CudaOpsOptions options_;
    Scratch scratch_;  // of the own kernels
    std::unique_ptr<CudaMatmul> matmul_;
    std::unique_ptr<CudnnAttention> cudnn_;  // null where it is not built in
};

}  // namespace trireme
