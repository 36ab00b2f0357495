#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/trace.h"
#include "model/gradient_reduction.h"
#include "model/model.h"
#include "model/optimizer.h"
#include "model/optimizer_options.h"
#include "model/recorded_passes.h"
#include "parallel/parallel_options.h"
#include "parallel/pipeline_runtime.h"

namespace trireme {

struct EngineOptions {
    PipelineOptions pipeline;
    DataParallelOptions data_parallel;
    OptimizerOptions optimizer;
    int micro_batches = 1;              // of a step, per data rank
    bool forward_only = false;          // no gradients, no optimizer: evaluation and generation
    bool kv_cache = false;              // generation: keys and values stay for the next token
    bool keep_documents_apart = false;  // micro-batches may say where their documents begin
    bool initial_values = true;         // false: the caller draws or loads them before any pass
    GraphUse graphs = GraphUse::never;
    Trace* trace = nullptr;  // where the time of a step is recorded; must outlive the engine
};

// A micro-batch in host memory, read during the call that asks for it. Ranks without the first
// (last) stage may leave tokens (labels) empty.
struct HostMicroBatch {
    std::span<const int32_t> tokens;  // [B * T]
    std::span<const int32_t> labels;  // [B * T], < 0 does not count
    int64_t first_sample = 0;         // number of its first sequence in the run
    // Where documents are kept apart, on every rank: for each token the index within its sequence
    // of the first token of its document, and, with any micro-batch of a training step, how many
    // tokens of its global batch count in the loss, that is all whose label is of the same
    // document. Otherwise all of them count.
    std::span<const int32_t> document_begin = {};  // [B * T]
    std::optional<int64_t> counted_tokens = {};
};

// Gives micro-batch i of the pass, i = 0, 1, ... in order.
using MicroBatchSource = std::function<HostMicroBatch(int)>;

struct StepResult {
    double loss = 0;                // mean over the global batch's counted tokens, nats
    double grad_norm = 0;           // global, before clipping
    AxisSeconds axis_wait_seconds;  // compute waited for each axis
    double votes = 0;               // sum of all ranks' votes
    bool updated = false;           // the parameters were

    bool is_finite() const { return std::isfinite(loss) && std::isfinite(grad_norm); }
};

// What a step asks its caller on the way; either may be empty.
struct StepHooks {
    // Late in the step, on every rank: all get the sum of the answers.
    std::function<double()> vote = {};
    // Whether a step with this loss and norm may update the parameters. Asked on every rank with
    // the same values; every rank answers alike.
    std::function<bool(const StepResult&)> may_update = {};
};

// What of one rank's last step was not finite.
struct NotFinite {
    bool loss = false;                // of its own micro-batches
    std::vector<std::string> own;     // parameters in buckets with such a gradient before any sum
    std::vector<std::string> summed;  // parameters with such a gradient after all sums, of those
                                      // that this rank counts in the norm
};

// Logits of consecutive tokens in host memory, in one tensor rank's part of the vocabulary.
struct LogitRows {
    int64_t first_row = 0;  // the first token's place in the run: sample * T + token
    int64_t rows = 0;
    int64_t first_column = 0;       // of the vocabulary
    int64_t columns = 0;            // without the padding; may be 0
    int64_t stride = 0;             // from one row to the next, at least columns
    std::span<const float> values;  // [rows, stride]
};

// Which logits an evaluation hands over on its way: those of the first `samples` samples, a bounded
// number of tokens at a time, each on the last stage, on all tensor ranks of the data and context
// rank that has the token. `take` must not throw: other ranks wait for this one in the same pass.
struct LogitRequest {
    int64_t samples = 0;
    std::function<void(const LogitRows&)> take = {};
};

struct EvaluationResult {
    double loss_sum = 0;  // nats over all data ranks
    int64_t tokens = 0;   // that count
    bool is_complete = true;
};

// What all ranks add up in a pass, in one exchange.
struct PassTotals {
    struct Values {
        double squared_norm = 0;  // of the gradients
        double loss = 0;
        double votes = 0;
        double tokens = 0;  // that count in an evaluation
    };

    Tensor all;  // [4] f64, as in Values

    Tensor squared_norm() const { return all.flat_range(0, 1); }
    Tensor loss() const { return all.flat_range(1, 1); }
    Tensor votes() const { return all.flat_range(2, 1); }
    Tensor tokens() const { return all.flat_range(3, 1); }
};

// One rank's part of the training step, from micro-batches to updated parameters. Everything it
// needs is taken when it is made; a step allocates nothing. Collective: all ranks of the mesh make
// the same calls.
class Engine {
public:
    Engine(const ModelContext& context, const EngineOptions& options);
    ~Engine();

    // Gives parameters and master weights the values that training begins with.
    void draw_initial_values();

    // Runs the schedule, reduces, clips, updates. Blocks until loss and norm are on the host.
    // step counts from 1. Nothing is updated, on all ranks alike, when the loss or the norm is not
    // finite or may_update says no.
    StepResult step(int64_t step, double lr, const MicroBatchSource& source,
                    const StepHooks& hooks = {});

    // What the last step decided about how it is carried out, for the log; mostly nothing.
    std::string take_notice() { return std::exchange(notice_, {}); }
    // Whether passes are launched as recorded work by now (device.graphs).
    bool records_passes() const { return passes_ && passes_->records(); }

    // After a step that was not finite: where it came from, as far as this rank knows. Blocks.
    NotFinite find_not_finite();

    // Forward only. Any number of micro-batches, the same on every rank. is_stopped, if given, is
    // asked before each and ends the pass; it must answer the same on every rank.
    EvaluationResult evaluate(int micro_batches, const MicroBatchSource& source,
                              const std::function<bool(int micro_batch)>& is_stopped = {},
                              const LogitRequest& logits = {});

    // The loss of each token of one micro-batch, zero where the label does not count. Every data
    // rank gives a micro-batch of its own; all ranks get those of all, [data * B * T]. Only where
    // the engine is forward_only.
    std::vector<float> token_losses(const HostMicroBatch& micro_batch);

    // Logits of the token after position `token` of the one sequence in `tokens` [T]; what stands
    // behind does not matter. Returns all vocab_size of them on every rank; not for use while
    // training. known: that many tokens were the first ones of the last call too, so that their
    // keys and values are used again; at most `token`, and more than 0 only in an engine that keeps
    // them.
    std::vector<float> next_token_logits(std::span<const int32_t> tokens, int64_t token,
                                         int64_t known = 0);

    Model& model() { return *model_; }
    std::vector<std::unique_ptr<Optimizer>>& optimizers() { return optimizers_; }
    Device& device() { return context_.device; }

    // Bytes held, by label.
    std::vector<std::pair<std::string, size_t>> memory() const;

private:
    void rehearse(StepInputs::Pass pass);
    void begin_inputs(StepInputs::Pass pass);
    // Of a micro-batch's tokens or labels those of this rank.
    std::span<const int32_t> context_part(std::span<const int32_t> micro_batch) const;
    void add_micro_batch(const HostMicroBatch& micro_batch);
    void hand_over(const LogitRequest& request, int64_t first_row, const Tensor& logits);
    void zero_gradients();
    void make_parameter_gatherer(const ScheduleProgram& program);
    void make_recorded_passes();
    void make_optimizers();
    void register_exchanged_memory();
    void take_inputs(Arena& arena);
    // Reads a step's micro-batches. Returns how many tokens of the global batch count in the loss.
    double load(const MicroBatchSource& source);
    void run_forward();
    void finish_pass();
    void update(int64_t step, double lr);

    const ModelContext context_;
    ActivityBoard& activity_;  // of this rank
    EngineOptions options_;
    const int zero_stage_;  // of the options; at most 1 where nothing is sharded
    std::unique_ptr<Model> model_;
    std::unique_ptr<PipelineRuntime> runtime_;
    std::unique_ptr<RecordedPasses> passes_;  // or null
    std::string notice_;
    std::optional<Arena> state_arena_, input_arena_;
    std::unique_ptr<GradientReduction> reduction_;     // absent where forward_only
    std::unique_ptr<ParameterGatherer> gatherer_;      // ZeRO-3
    std::vector<BucketUse> step_uses_, forward_uses_;  // of a step, of a micro-batch's forward
    std::vector<std::unique_ptr<Optimizer>> optimizers_;
    // Device copies of the inputs, a micro-batch each.
    std::vector<Tensor> tokens_, labels_, document_begin_;
    StepInputs inputs_;  // of the current pass; its vectors keep their memory
    PassTotals totals_;
    Tensor own_loss_;                 // [1] f64: of the last step, before it is summed
    Tensor grad_scale_;               // [1] f32
    Tensor logits_;                   // [1, V local] f32, generation
    Tensor all_logits_;               // [tensor, V local] f32
    Tensor token_losses_;             // [data * B * T] f32, forward_only
    std::vector<float> host_logits_;  // a chunk of them, where they are asked for
};

}  // namespace trireme
