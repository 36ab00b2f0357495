#pragma once

#include <optional>

#include "model/branch.h"
#include "model/head_norm.h"

namespace trireme {

// Causal grouped-query self-attention; the heads are split over the tensor ranks.
class AttentionBranch final : public Branch {
public:
    // layer: "layers.0"
    AttentionBranch(const ModelContext& context, ParameterStore& store, const ChunkBuffers& buffers,
                    const std::string& layer);

    void collect_parameters(std::vector<int>& indices) const override;

    // Gives activations that share a working set their own queries, keys and values, so that they
    // are there in later passes.
    void take_kv_cache(Arena& arena, BranchActivations& activations) const;

private:
    // column: [B * T, (heads + 2 kv_heads) * D] after RoPE, or with a norm of the heads before it,
    // and prepared after both; inner: [tokens, heads * D]; statistics: log-sum-exp [B, heads, T].
    // On a context axis column and statistics have this rank's part of the heads only, and `heads`
    // [B * T, part of the heads * D] goes before inner.
    // Works on whole sequences: of a span it is given all tokens, makes queries, keys and values of
    // the span's ready and lets them attend to those before.
    bool works_on_pieces() const override {
        return context_.batch % context_.pieces == 0 && !context_.span && !exchanges();
    }
    bool exchanges() const { return context_.context_size() > 1; }
    const Tensor& column_output(const BranchActivations& saved) const override {
        return exchanges() ? buffers_.exchange.column : saved.column;
    }
    void interior_forward(const MicroBatchContext& micro_batch,
                          const BranchActivations& part) const override;
    void interior_again(const MicroBatchContext& micro_batch,
                        const BranchActivations& part) const override;
    void interior_backward(const MicroBatchContext& micro_batch, const BranchActivations& part,
                           const Tensor& dinner, const Tensor& dcolumn) const override;
    // first_sample and document_begin of the micro-batch are those of these tokens.
    AttentionShape shape(const MicroBatchContext& micro_batch, int64_t tokens) const;
    Tensor by_sequence(const Tensor& qkv) const;  // [B, T, width], of a span [1, count, width]
    // The rows that a pass makes.
    Tensor made_now(const Tensor& part) const {
        return context_.span ? piece_of(context_, part, 0) : part;
    }
    // What attention reads and writes.
    const Tensor& attended(const BranchActivations& part) const {
        return head_norm_ ? part.prepared : part.column;
    }
    const Tensor& attention_output(const BranchActivations& part) const {
        return exchanges() ? part.heads : part.inner;
    }
    void rotate(const Tensor& qkv) const;
    // column -> what attention reads
    void prepare(const BranchActivations& part) const;
    // ... -> inner
    void attend(const MicroBatchContext& micro_batch, const BranchActivations& part) const;
    // Gradients of attention's output and of column.
    void attend_backward(const MicroBatchContext& micro_batch, const BranchActivations& part,
                         const Tensor& doutput, const Tensor& dcolumn) const;

    std::optional<HeadNorm> head_norm_;
    PhiloxKey probability_key_;
};

}  // namespace trireme
