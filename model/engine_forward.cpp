// The passes of an engine that only go forward: evaluation, token losses, generation.
#include <algorithm>

#include "core/error.h"
#include "model/engine.h"
#include "parallel/activity.h"

namespace trireme {

void Engine::run_forward() {
    model_->begin(inputs_, {});
    if (gatherer_) gatherer_->begin(forward_uses_);
    runtime_->run_forward(*model_, 1);
}

EvaluationResult Engine::evaluate(int micro_batches, const MicroBatchSource& source,
                                  const std::function<bool(int micro_batch)>& is_stopped,
                                  const LogitRequest& logits) {
    Stream& stream = context_.stream();
    context_.ops().fill_zero(stream, totals_.all);
    int64_t tokens = 0;
    bool stopped = false;
    for (int i = 0; i < micro_batches; ++i) {
        stopped = is_stopped && is_stopped(i);
        if (stopped) break;
        activity_.act("evaluating micro-batch", i);
        const HostMicroBatch micro_batch = source(i);
        begin_inputs(StepInputs::Pass::evaluate);
        add_micro_batch(micro_batch);
        if (micro_batch.first_sample < logits.samples) {
            const int64_t first =
                micro_batch.first_sample * context_.sequence + context_.context_begin();
            inputs_.take_logits = [&, first](int64_t token, const Tensor& chunk) {
                hand_over(logits, first + token, chunk);
            };
        }
        run_forward();
        const std::span<const int32_t> labels = context_part(micro_batch.labels);
        tokens +=
            std::count_if(labels.begin(), labels.end(), [](int32_t label) { return label >= 0; });
    }
    inputs_.take_logits = {};  // it refers to what the caller may take away
    // Counted where the loss is: on the last stage, by one tensor rank.
    const double own_tokens = static_cast<double>(tokens);
    const bool counts = context_.tensor_rank() == 0 && model_->has_head();
    if (counts) {
        context_.device.copy_to_device(totals_.tokens().data, &own_tokens, sizeof own_tokens);
    } else {
        context_.ops().fill_zero(stream, totals_.all);
    }
    stream.wait(context_.mesh.all().all_reduce(stream, totals_.all, ReduceOp::sum, "evaluation"));
    PassTotals::Values totals;
    context_.device.copy_to_host(&totals, totals_.all.data, sizeof(totals));
    finish_pass();
    return {totals.loss, static_cast<int64_t>(totals.tokens), !stopped};
}

void Engine::hand_over(const LogitRequest& request, int64_t first_row, const Tensor& logits) {
    const int64_t rows = std::min(logits.rows(), request.samples * context_.sequence - first_row);
    if (rows <= 0) return;
    const int64_t stride = context_.local_vocab();
    host_logits_.resize(static_cast<size_t>(rows * stride));
    context_.device.copy_to_host(host_logits_.data(), logits.data,
                                 host_logits_.size() * sizeof(float));
    context_.stream().synchronize();
    request.take({first_row, rows, context_.first_vocab_row(), context_.valid_vocab_rows(), stride,
                  host_logits_});
}

std::vector<float> Engine::token_losses(const HostMicroBatch& micro_batch) {
    TRIREME_CHECK(options_.forward_only, "an engine for evaluation");
    Stream& stream = context_.stream();
    Mesh& mesh = context_.mesh;
    context_.ops().fill_zero(stream, totals_.all);
    context_.ops().fill_zero(stream, token_losses_);
    begin_inputs(StepInputs::Pass::evaluate);
    // The tensor ranks of the last stage all know them; one adds them to the others' zeros.
    if (context_.tensor_rank() == 0) {
        inputs_.token_losses =
            token_losses_.flat_range(mesh.data().rank() * context_.tokens(), context_.tokens());
    }
    add_micro_batch(micro_batch);
    run_forward();
    stream.wait(mesh.all().all_reduce(stream, token_losses_, ReduceOp::sum, "token losses"));
    std::vector<float> losses(static_cast<size_t>(token_losses_.elements()));
    context_.device.copy_to_host(losses.data(), token_losses_.data, token_losses_.bytes());
    finish_pass();
    return losses;
}

std::vector<float> Engine::next_token_logits(std::span<const int32_t> tokens, int64_t token,
                                             int64_t known) {
    TRIREME_CHECK(known == 0 || (options_.kv_cache && known <= token),
                  "an engine that keeps the keys and values of tokens before this one");
    TRIREME_CHECK(context_.context_size() == 1, "all tokens of a sequence that is generated");
    Stream& stream = context_.stream();
    Mesh& mesh = context_.mesh;
    begin_inputs(StepInputs::Pass::generate);
    add_micro_batch({.tokens = tokens, .labels = {}, .first_sample = 0});
    inputs_.logits_token = token;
    if (options_.kv_cache) inputs_.span = {known, token + 1 - known};
    run_forward();
    if (model_->has_head()) {
        stream.wait(mesh.tensor().all_gather(stream, logits_, all_logits_, "logits"));
    }
    const MeshCoordinates root{
        .tensor = 0, .context = 0, .data = 0, .pipeline = model_->head_stage()};
    stream.wait(mesh.all().broadcast(stream, all_logits_, rank_of(mesh.shape(), root), "logits"));
    std::vector<float> logits(static_cast<size_t>(all_logits_.elements()));
    context_.device.copy_to_host(logits.data(), all_logits_.data, all_logits_.bytes());
    finish_pass();
    logits.resize(static_cast<size_t>(context_.model.vocab_size));
    return logits;
}

}  // namespace trireme
