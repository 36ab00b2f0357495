#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/head_parts.h"
#include "model/model_options.h"
#include "model/recompute.h"
#include "parallel/mesh.h"

namespace trireme {

// More would gain nothing; what is on its way is kept in arrays of this size.
inline constexpr int kMostPieces = 16;

// Tokens that stand one behind the other.
struct TokenSpan {
    int64_t first = 0;
    int64_t count = 0;  // 0: no span

    explicit operator bool() const { return count > 0; }
    int64_t end() const { return first + count; }
};

// What every layer needs to know: where it runs, the model's shape, and how this rank shares it.
// Holds references; device and mesh outlive every layer.
struct ModelContext {
    Device& device;
    Mesh& mesh;
    ModelOptions model;
    DType compute = DType::f32;  // type of parameters and activations
    bool sequence_parallel = false;
    int64_t batch = 1;     // sequences in a micro-batch
    int64_t sequence = 1;  // tokens in a sequence
    uint64_t seed = 0;
    RecomputeOptions recompute = {};
    // In how many equal contiguous pieces tokens() travel between the tensor ranks, so that a piece
    // is on its way while others are computed. Divides local_tokens().
    int pieces = 1;
    bool overlap_tensor = true;  // false: compute waits for each piece at once
    // The tokens that the pass under way computes where it uses again what earlier passes left of
    // those before (see Engine::next_token_logits); none: it computes all of the micro-batch. Set
    // by Model. Only with one piece, one sequence and tokens that no ranks share out.
    TokenSpan span = {};

    Ops& ops() const { return device.ops(); }
    Stream& stream() const { return device.compute(); }

    int tensor_size() const { return mesh.shape().tensor; }
    int tensor_rank() const { return mesh.at().tensor; }
    int context_size() const { return mesh.shape().context; }
    int context_rank() const { return mesh.at().context; }
    bool is_sharded_by_token() const { return sequence_parallel && tensor_size() > 1; }

    // A micro-batch's tokens; those of this rank's context rank, a contiguous part of them; and of
    // these what this rank holds outside the tensor-parallel regions: under sequence parallelism
    // its contiguous part of each piece, one behind the other; else all.
    int64_t micro_batch_tokens() const { return batch * sequence; }
    int64_t tokens() const { return micro_batch_tokens() / context_size(); }
    int64_t local_tokens() const {
        return is_sharded_by_token() ? tokens() / tensor_size() : tokens();
    }
    // The rows of a piece in a tensor with `rows` of them: all tokens or this rank's. The span
    // where a pass has one.
    TokenSpan rows_of_piece(int64_t rows, int piece) const {
        return span ? span : TokenSpan{piece * (rows / pieces), rows / pieces};
    }
    // Where in a tensor of tokens() this rank's own of a piece begin, and where in the micro-batch.
    int64_t first_row(int piece) const {
        if (span) return span.first;
        const int64_t before = is_sharded_by_token() ? tensor_rank() * local_tokens() / pieces : 0;
        return piece * (tokens() / pieces) + before;
    }
    int64_t first_token(int piece) const { return context_begin() + first_row(piece); }
    // Where in the micro-batch tokens() begin.
    int64_t context_begin() const { return context_rank() * tokens(); }

    int local_heads() const { return model.heads / tensor_size(); }
    // Key/value heads on this rank; ranks share one when there are fewer than ranks.
    int local_kv_heads() const {
        return model.kv_heads >= tensor_size() ? model.kv_heads / tensor_size() : 1;
    }
    int first_kv_head() const { return tensor_rank() * model.kv_heads / tensor_size(); }
    // How the heads are shared out among the context ranks while they attend.
    HeadParts head_parts() const {
        return {.parts = context_size(),
                .heads = local_heads(),
                .kv_heads = local_kv_heads(),
                .head_dim = model.head_dim};
    }
    HeadParts query_parts() const {  // of rows of queries alone, or of attention's output
        HeadParts parts = head_parts();
        parts.kv_heads = 0;
        return parts;
    }
    int64_t local_ffn() const { return model.ffn_hidden / tensor_size(); }
    // Vocabulary rows per tensor rank: the last ranks' padded, and to a multiple of 8, so that rows
    // of logits start at whole 16-byte words; of many, where it costs next to nothing, to one of
    // 64, so that they start at the 128-byte lines in which a GPU's matrix products read them.
    int64_t local_vocab() const {
        constexpr int64_t kMany = 4096;
        const int64_t rows = (model.vocab_size + tensor_size() - 1) / tensor_size();
        const int64_t unit = rows >= kMany ? 64 : 8;
        return (rows + unit - 1) / unit * unit;
    }
    int64_t first_vocab_row() const { return tensor_rank() * local_vocab(); }
    int64_t valid_vocab_rows() const {
        const int64_t left = model.vocab_size - first_vocab_row();
        return left < 0 ? 0 : (left < local_vocab() ? left : local_vocab());
    }
};

// What is particular to one pass over a micro-batch.
struct MicroBatchContext {
    int64_t step = 0;          // optimizer step, part of the dropout key
    int64_t first_sample = 0;  // number of its first sequence in the run
    bool training = true;      // false: no dropout, nothing kept for backward
    // [B * T] i32: as in AttentionShape; absent where documents are not kept apart.
    Tensor document_begin = {};
};

// The number of pieces where none is asked for: 4, 2 or 1, as many as leave each 256 tokens, enough
// for efficient matmuls, and divide evenly.
int automatic_pieces(int64_t tokens, int tensor_size, bool sequence_parallel);

// Into how many groups the tensor axis is split for shared key/value heads (see Mesh).
inline int kv_groups(const ModelOptions& model, int tensor_size) {
    return model.kv_heads < tensor_size ? model.kv_heads : tensor_size;
}

}  // namespace trireme
