#pragma once

#include <cstdint>

#include "core/head_parts.h"
#include "core/random.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace trireme {

// Inverted dropout of elements identified by a global index, so that every mesh draws the same
// mask: an element is kept when its Philox uniform is >= probability, and then scaled by
// 1 / (1 - probability). probability 0 means no dropout and costs nothing.
struct Dropout {
    float probability = 0.0f;
    PhiloxKey key;               // of the run's seed and the place in the model
    uint64_t stream = 0;         // the optimizer step
    uint64_t first_element = 0;  // global index of the first element of the tensor
};

// out = residual + dropout(y + bias), [N, C]. bias, [C], may be absent; out may be residual or y.
struct ResidualAdd {
    Tensor residual, y, bias;
    Dropout dropout;
    Tensor out;
};

struct AttentionShape {
    int64_t batch = 0;
    int64_t sequence = 0;
    int heads = 0;     // query heads on this rank
    int kv_heads = 0;  // key/value heads on this rank; divides heads
    int head_dim = 0;
    float scale = 1.0f;
    // Dropout of attention probabilities. The element index of (b, h, q, k) on this rank is
    // first_element + ((b * heads_global + h) * sequence + q) * sequence + k.
    Dropout dropout;
    int heads_global = 0;
    // Forward: only the outputs of queries from here on are wanted. Earlier rows of out and lse may
    // be left as they are or written with what belongs there.
    int first_query = 0;
    // [batch, sequence] i32, or absent: all tokens of a sequence belong together. Otherwise the
    // index within its sequence of the first token of each token's document, from 0 to the token's
    // own and never falling; a query sees the keys from there on only.
    Tensor document_begin;
};

// Widest head that has a norm of its own: a GPU keeps the gradients of its weights close by.
inline constexpr int kMostNormedHead = 4096;

struct AdamWStep {
    double lr = 0, beta1 = 0, beta2 = 0, eps = 0, weight_decay = 0;
    int64_t step = 1;  // from 1, for bias correction
};

// Every operation of the model, forward and backward beside each other. `core/cpu` and `core/cuda`
// implement them; the CPU version is the reference for the GPU.
//
// Conventions. Operations are enqueued on the stream (on the CPU they run inline). Tensors are
// contiguous. "activation" tensors are f32 or bf16, all of one type in a call; arithmetic is f32.
// Statistics, losses and gradients of parameters are f32. Gradients of parameters are added to
// (+=); other outputs are overwritten unless stated. Shapes: N tokens (= batch * sequence, or a
// slice of it), C hidden, F feed-forward, V vocabulary rows on this rank. Sizes are checked;
// breaking a shape rule is an InternalError. Every operation gives the same bits for the same
// input, shapes and thread count.
class Ops {
public:
    virtual ~Ops() = default;

    // --- matmul ------------------------------------------------------------------------------
    // y = x w^T + bias. bias may be absent. y may be f32 while x and w are bf16.
    virtual void linear_forward(Stream&, const Tensor& x,  // [N, K]
                                const Tensor& w,           // [M, K]
                                const Tensor& bias,        // [M] or absent
                                const Tensor& y) = 0;      // [N, M]
    // dx = dy w
    virtual void linear_backward_input(Stream&, const Tensor& dy,  // [N, M]
                                       const Tensor& w,            // [M, K]
                                       const Tensor& dx) = 0;      // [N, K]
    // dw += dy^T x, in f32
    virtual void linear_backward_weight(Stream&, const Tensor& dy,  // [N, M]
                                        const Tensor& x,            // [N, K]
                                        const Tensor& dw) = 0;      // [M, K] f32
    // db += sum of the rows of dy
    virtual void bias_backward(Stream&, const Tensor& dy,  // [N, M]
                               const Tensor& db) = 0;      // [M] f32

    // Combinations that a back end may do in one pass; as they stand, one operation after another.
    // pre = x w^T + bias (may be absent); y = gelu(pre)
    virtual void linear_gelu_forward(Stream&, const Tensor& x, const Tensor& w, const Tensor& bias,
                                     const Tensor& pre,  // [N, M] as y
                                     const Tensor& y);   // [N, M]
    // dx = (dy w) * gelu'(pre): the gradient of pre where the layer's input was gelu(pre)
    virtual void linear_gelu_backward_input(Stream&, const Tensor& dy, const Tensor& w,
                                            const Tensor& pre,  // [N, K] as dx
                                            const Tensor& dx);  // [N, K]
    // dw += dy^T x; db += sum of the rows of dy. Not for a db that several ranks compute alike: a
    // back end may choose its way by measuring.
    virtual void linear_backward_weight_bias(Stream&, const Tensor& dy, const Tensor& x,
                                             const Tensor& dw, const Tensor& db);

    // --- attention ---------------------------------------------------------------------------
    // Causal, grouped-query, blockwise: never stores a T x T matrix. qkv rows are
    // [heads * D | kv_heads * D | kv_heads * D].
    virtual void attention_forward(Stream&, const AttentionShape&,
                                   const Tensor& qkv,       // [B, T, (heads + 2 kv_heads) * D]
                                   const Tensor& out,       // [B, T, heads * D]
                                   const Tensor& lse) = 0;  // [B, heads, T] f32 log-sum-exp
    virtual void attention_backward(Stream&, const AttentionShape&, const Tensor& dout,
                                    const Tensor& qkv, const Tensor& out, const Tensor& lse,
                                    const Tensor& dqkv) = 0;

    // Rotary embedding, rotate-half pairing (element i with i + D/2), in place on the query and
    // key parts of qkv. Table: cos and sin of position * theta^(-2i/D).
    virtual void rope_forward(Stream&, const Tensor& qkv,  // [B, T, (heads + 2 kv_heads) * D]
                              const Tensor& cos_sin,       // [T_max, 2, D / 2] f32
                              int heads, int kv_heads, int head_dim) = 0;
    virtual void rope_backward(Stream&, const Tensor& dqkv, const Tensor& cos_sin, int heads,
                               int kv_heads, int head_dim) = 0;

    // RMS norm of each query and key head by itself, with one weight for all query heads and one
    // for all key heads. The values are copied. D is at most kMostNormedHead.
    virtual void head_norm_forward(Stream&, const Tensor& qkv,  // [N, (heads + 2 kv_heads) * D]
                                   const Tensor& query_weight,  // [D] as qkv
                                   const Tensor& key_weight,    // [D]
                                   float eps, int heads, int kv_heads,
                                   const Tensor& out) = 0;  // as qkv, another tensor
    // dqkv: the gradient of out on entry, of qkv on return. Computes the statistics again.
    virtual void head_norm_backward(Stream&, const Tensor& qkv, const Tensor& query_weight,
                                    const Tensor& key_weight, float eps, int heads, int kv_heads,
                                    const Tensor& dqkv,           // in place
                                    const Tensor& dquery_weight,  // [D] f32 +=
                                    const Tensor& dkey_weight) = 0;

    // --- heads among parts -------------------------------------------------------------------
    // Each part's heads of every row, part after part.
    virtual void split_heads(Stream&, const HeadParts&, const Tensor& rows,  // [N, width]
                             const Tensor& parts) = 0;  // [parts, N, part width] as rows
    // The way back, and the gradient of split_heads: of a head that parts share, the sum of theirs,
    // added in f32 in the parts' order.
    virtual void join_heads(Stream&, const HeadParts&,
                            const Tensor& parts,      // [parts, N, part width]
                            const Tensor& rows) = 0;  // [N, width], other memory

    // --- norms ---------------------------------------------------------------------------------
    virtual void layer_norm_forward(Stream&, const Tensor& x,                     // [N, C]
                                    const Tensor& weight, const Tensor& bias,     // [C] as x
                                    float eps, const Tensor& y,                   // [N, C]
                                    const Tensor& mean, const Tensor& rstd) = 0;  // [N] f32
    // dx += gradient (so that the residual's gradient needs no pass of its own).
    virtual void layer_norm_backward(Stream&, const Tensor& dy, const Tensor& x,
                                     const Tensor& weight, const Tensor& mean, const Tensor& rstd,
                                     const Tensor& dx,  // [N, C], added to
                                     const Tensor& dweight, const Tensor& dbias) = 0;  // [C] f32
    virtual void rms_norm_forward(Stream&, const Tensor& x, const Tensor& weight, float eps,
                                  const Tensor& y, const Tensor& rstd) = 0;
    virtual void rms_norm_backward(Stream&, const Tensor& dy, const Tensor& x, const Tensor& weight,
                                   const Tensor& rstd,
                                   const Tensor& dx,            // [N, C], added to
                                   const Tensor& dweight) = 0;  // [C] f32

    // --- activations ---------------------------------------------------------------------------
    // GELU, tanh approximation.
    virtual void gelu_forward(Stream&, const Tensor& x, const Tensor& y) = 0;  // [N, F]
    virtual void gelu_backward(Stream&, const Tensor& dy, const Tensor& x,
                               const Tensor& dx) = 0;  // dx may be dy
    // y = silu(gate) * up
    virtual void swiglu_forward(Stream&, const Tensor& gate_up,  // [N, 2F]: gate | up
                                const Tensor& y) = 0;            // [N, F]
    virtual void swiglu_backward(Stream&, const Tensor& dy, const Tensor& gate_up,
                                 const Tensor& dgate_up) = 0;  // may be gate_up

    // --- residual stream -----------------------------------------------------------------------
    virtual void residual_add_forward(Stream&, const ResidualAdd&) = 0;
    // A residual add and the norm of the sum, which is read no second time. To the bit what
    // residual_add_forward and then the norm's forward of `out` give; on a GPU where the tensors of
    // both are aligned alike. y: another tensor than those of the add.
    virtual void residual_add_layer_norm_forward(Stream&, const ResidualAdd&, const Tensor& weight,
                                                 const Tensor& bias,          // [C] as y
                                                 float eps, const Tensor& y,  // [N, C]
                                                 const Tensor& mean,
                                                 const Tensor& rstd) = 0;  // [N] f32
    virtual void residual_add_rms_norm_forward(Stream&, const ResidualAdd&, const Tensor& weight,
                                               float eps, const Tensor& y, const Tensor& rstd) = 0;
    // Gradient through a dropout: dy = dropout mask * dout. dy may be dout. The same op is the
    // forward of a dropout that stands alone (after the embedding).
    virtual void dropout_apply(Stream&, const Tensor& dout, const Dropout&, const Tensor& dy) = 0;

    // --- embedding -----------------------------------------------------------------------------
    // y[n] = table[ids[n] - first_row], or zeros when the row is not on this rank.
    virtual void embedding_forward(Stream&, const Tensor& ids,               // [N] i32
                                   const Tensor& table,                      // [V, C]
                                   int64_t first_row, const Tensor& y) = 0;  // [N, C]
    virtual void embedding_backward(Stream&, const Tensor& dy, const Tensor& ids, int64_t first_row,
                                    const Tensor& dtable) = 0;  // [V, C] f32 +=
    // Token n of the tensor stands at position (first_token + n) % sequence, less
    // document_begin[n] where that is not absent.
    virtual void position_forward(Stream&, const Tensor& table,  // [T_max, C]
                                  int64_t first_token, int64_t sequence,
                                  const Tensor& document_begin,  // [N] i32 or absent
                                  const Tensor& y) = 0;          // [N, C], added to
    virtual void position_backward(Stream&, const Tensor& dy, int64_t first_token, int64_t sequence,
                                   const Tensor& document_begin,
                                   const Tensor& dtable) = 0;  // f32 +=

    // --- cross entropy over a split vocabulary -------------------------------------------------
    // Three steps with a reduction over the tensor axis between them. Columns >= valid_cols are
    // padding. A label < 0 means: this token does not count.
    // 1. row_max[n] = max of the row's valid columns               (then all-reduce max)
    virtual void cross_entropy_max(Stream&, const Tensor& logits,                   // [N, V] f32
                                   int64_t valid_cols, const Tensor& row_max) = 0;  // [N] f32
    // 2. logits = exp(logits - row_max) in place, 0 in padding; sums[0, n] = their sum;
    //    sums[1, n] = logits[label] - row_max, or 0 when not here  (then all-reduce sum)
    virtual void cross_entropy_exp(Stream&, const Tensor& logits, int64_t valid_cols,
                                   const Tensor& row_max, const Tensor& labels,  // [N] i32
                                   int64_t first_row, const Tensor& sums) = 0;   // [2, N] f32
    // 3. losses[n] = log(sums[0, n]) - sums[1, n] (0 when the label < 0); and unless dlogits is
    //    absent: dlogits = (softmax - onehot) * scale, 0 in padding and in rows with label < 0.
    //    dlogits may be logits when both are f32.
    virtual void cross_entropy_finish(Stream&, const Tensor& exp_logits, int64_t valid_cols,
                                      const Tensor& labels, int64_t first_row, const Tensor& sums,
                                      float scale, const Tensor& losses,  // [N] f32
                                      const Tensor& dlogits) = 0;         // [N, V] or absent

    // --- plain element work --------------------------------------------------------------------
    virtual void fill_zero(Stream&, const Tensor& x) = 0;
    virtual void copy(Stream&, const Tensor& from, const Tensor& to) = 0;  // converts f32 <-> bf16
    virtual void add(Stream&, const Tensor& x, const Tensor& y) = 0;       // y += x
    // total (f64 scalar) += sum of x (f32), accumulated in f64
    virtual void add_sum(Stream&, const Tensor& x, const Tensor& total) = 0;
    // total (f64 scalar) += sum of squares of x (f32), accumulated in f64
    virtual void add_squared_norm(Stream&, const Tensor& x, const Tensor& total) = 0;
    // scale = min(1, max_norm / sqrt(squared_norm)), 1 when max_norm <= 0. On the device, so that
    // the host need not wait for the norm.
    virtual void clip_scale(Stream&, const Tensor& squared_norm,       // f64 scalar
                            float max_norm, const Tensor& scale) = 0;  // f32 scalar

    // --- optimizer -----------------------------------------------------------------------------
    // AdamW (Loshchilov and Hutter 2019) on a flat range with g = grad * grad_scale:
    //   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    //   master -= lr * (m / (1 - b1^step) / (sqrt(v / (1 - b2^step)) + eps) + wd * master)
    //   param = master, rounded to param's type. param may be master.
    virtual void adamw(Stream&, const AdamWStep&, const Tensor& grad,           // [n] f32
                       const Tensor& grad_scale,                                // f32 scalar
                       const Tensor& master, const Tensor& m, const Tensor& v,  // [n] f32
                       const Tensor& param) = 0;                                // [n] f32 or bf16
};

}  // namespace trireme
