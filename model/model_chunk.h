#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "model/block.h"
#include "model/embedding.h"
#include "model/loss_head.h"
#include "parallel/gradient_reducer.h"
#include "parallel/stage_executor.h"

namespace trireme {

// What a step feeds into the model.
struct StepInputs {
    enum class Pass { train, evaluate, generate };

    Pass pass = Pass::train;
    int64_t step = 0;
    float loss_scale = 1.0f;     // weight of a token in the loss: 1 / global tokens that count
    std::vector<Tensor> tokens;  // per micro-batch: [tokens] i32, of this context rank
    std::vector<Tensor> labels;  // per micro-batch: [tokens] i32, < 0 does not count
    std::vector<int64_t> first_sample;   // per micro-batch: number in the run
    std::vector<Tensor> document_begin;  // per micro-batch: [B * T] i32, or absent; or empty
    Tensor loss_total;                   // f64 scalar, added to by the head
    Tensor token_losses;                 // evaluate: [tokens] f32 of each; may be empty
    LossHead::LogitSink take_logits;     // evaluate: may be empty
    int64_t logits_token = 0;            // generate: which token's logits
    TokenSpan span = {};                 // generate: the tokens that are computed
    Tensor logits;                       // generate: [1, V local] f32

    MicroBatchContext micro_batch(int index) const {
        const auto i = static_cast<size_t>(index);
        return {step, first_sample[i], pass == Pass::train,
                document_begin.empty() ? Tensor() : document_begin[i]};
    }
};

// Which part of the model a chunk is.
struct ChunkRange {
    int first_layer = 0;
    int end_layer = 0;
    bool has_embedding = false;
    bool has_head = false;
};

// The layers of virtual stage `stage` of `stages`; when they do not divide evenly the earlier
// stages have one more, because the last also has the head.
ChunkRange chunk_range(int layers, int stage, int stages);

// A run of consecutive layers on one rank, with embedding and head where they belong. Owns its
// parameters' description and the memory of its activations.
class ModelChunk {
public:
    ModelChunk(const ModelContext& context, const ChunkRange& range);

    ParameterStore& store() { return store_; }
    const ChunkRange& range() const { return range_; }

    // Takes parameters (and gradients unless forward_only), laid out as the store has planned.
    void allocate_parameters(bool forward_only);
    // Takes activations for this many micro-batches at once. split_backward: the schedule runs
    // weight halves apart, so each slot keeps the gradients they need. kv_cache: each layer
    // keeps its keys and values for later passes, also where recomputation shares the rest.
    void allocate_activations(int slots, bool split_backward, bool kv_cache);

    // This chunk's actions. reducer: told as gradients become final; may be null.
    void forward(const StepInputs& inputs, const StageAction& work);
    // All of it, or its input half.
    void backward(const StepInputs& inputs, const StageAction& work, GradientReducer* reducer);
    void backward_weight(int slot, GradientReducer* reducer);

    // The buckets of which an action makes a ParameterUse, in that order, appended.
    void list_uses(ActionKind kind, std::vector<BucketUse>& uses) const;

    // The token embedding's copy that the first and the last chunk of the model keep equal, or -1.
    int tied_parameter() const;
    // Activations and what is computed from them in a pass.
    std::array<const Arena*, 2> activation_arenas() const {
        return {&*activation_arena_, &*scratch_arena_};
    }
    const Arena* gradient_arena() const { return gradient_arena_ ? &*gradient_arena_ : nullptr; }
    std::vector<const Arena*> arenas() const;

private:
    struct Slot {
        Tensor embedded;  // [local tokens, C], first chunk
        std::vector<Block::Activations> layers;
        std::vector<Block::Gradients> gradients;  // split backward only
        LossHead::Activations head;
    };

    void fill_rope_table();
    const Tensor& layer_input(const Slot& slot, size_t layer, const Tensor& input) const;
    // The gradient of the last layer's output, in the memory that the pass works in.
    Tensor begin_residual_gradient(const Slot& slot, const StageAction& work,
                                   GradientReducer* reducer) const;
    void report_ready(GradientReducer* reducer, const std::vector<int>& parameters) const;

    const ModelContext& context_;
    ChunkRange range_;
    ParameterStore store_;
    ChunkBuffers buffers_;
    std::optional<Embedding> embedding_;
    std::vector<std::unique_ptr<Block>> blocks_;
    std::optional<LossHead> head_;
    // Parameters of each part, as reported to the reducer.
    std::vector<int> embedding_parameters_, head_parameters_;
    std::vector<std::vector<int>> block_parameters_;

    std::optional<Arena> parameter_arena_, gradient_arena_, activation_arena_, scratch_arena_;
    std::vector<Slot> slots_;
    Block::WorkingSet working_set_;  // where layers compute again
    Block::Gradients shared_gradients_;
    Tensor residual_gradient_;  // [local tokens, C], where no stage before wants it
};

}  // namespace trireme
