#include "model/recorded_passes.h"

#include <cmath>
#include <utility>

namespace trireme {

namespace {

constexpr int kMeasuredSteps = 3;
// The device waits for the host when this has next to nothing to wait for once all is enqueued.
constexpr double kIdleHostShare = 0.1;

}  // namespace

std::string RecordedPasses::find_obstacle(const ModelContext& context, int zero_stage,
                                          int micro_batches, bool documents_apart) {
    if (context.device.backend() != Backend::cuda) return "the device is no GPU";
    if (context.tensor_size() > 1) return "with mesh.tensor > 1 a pass communicates";
    if (zero_stage >= 2) return "with data_parallel.zero 2 and 3 a pass communicates";
    if (context.model.dropout > 0.0f) return "with model.dropout > 0 no two passes are the same";
    if (documents_apart) {
        return "with data.keep_documents_apart no two steps weigh a token alike";
    }
    if (context.mesh.shape().data > 1 && micro_batches == 1) {
        return "with mesh.data > 1 and one micro-batch a step every pass communicates";
    }
    return "";
}

RecordedPasses::RecordedPasses(Model& model, GraphUse use, int slots)
    : model_(model),
      use_(use),
      slots_(slots),
      has_data_ranks_(model.context().mesh.shape().data > 1) {}

void RecordedPasses::take_inputs(Arena& arena) {
    tokens_.clear();
    labels_.clear();
    const Shape shape{model_.context().tokens()};
    for (int slot = 0; slot < slots_; ++slot) {
        tokens_.push_back(model_.has_embedding() ? arena.take(DType::i32, shape) : Tensor());
        labels_.push_back(model_.has_head() ? arena.take(DType::i32, shape) : Tensor());
    }
}

void RecordedPasses::begin_step(StepInputs& inputs) {
    inputs_ = &inputs;
    runs_first_.assign(model_.chunks().size(), 1);
    micro_batches_ = static_cast<int>(inputs.tokens.size());
    for (int slot = 0; slot < slots_; ++slot) {
        inputs.tokens.push_back(tokens_[static_cast<size_t>(slot)]);
        inputs.labels.push_back(labels_[static_cast<size_t>(slot)]);
        inputs.first_sample.push_back(0);
        inputs.document_begin.emplace_back();
    }
}

void RecordedPasses::forward(int chunk, int micro_batch, int slot, const Tensor& input,
                             const Tensor& output) {
    if (!records()) return model_.forward(chunk, micro_batch, slot, input, output);
    const ModelContext& context = model_.context();
    const ChunkRange& range = model_.chunks()[static_cast<size_t>(chunk)]->range();
    const auto give = [&](const std::vector<Tensor>& of_step) {
        context.ops().copy(context.stream(), of_step[static_cast<size_t>(micro_batch)],
                           of_step[static_cast<size_t>(entry_of(slot))]);
    };
    if (range.has_embedding) give(inputs_->tokens);
    if (range.has_head) give(inputs_->labels);
    const auto pass = [&] { model_.forward(chunk, entry_of(slot), slot, input, output); };
    const bool is_first = std::exchange(runs_first_[static_cast<size_t>(chunk)], 0) != 0;
    if (is_first && has_data_ranks_) return pass();
    perform({ActionKind::forward, chunk, slot, input.data, nullptr, output.data}, pass);
}

void RecordedPasses::backward(int chunk, int micro_batch, int slot, const Tensor& input,
                              const Tensor& output_gradient, const Tensor& input_gradient,
                              bool with_weights, bool last) {
    if (!records() || (last && has_data_ranks_)) {
        return model_.backward(chunk, micro_batch, slot, input, output_gradient, input_gradient,
                               with_weights, last);
    }
    // Gradients that do not travel need not be reported as they become final.
    perform({with_weights ? ActionKind::backward : ActionKind::backward_input, chunk, slot,
             input.data, output_gradient.data, input_gradient.data},
            [&] {
                model_.backward(chunk, entry_of(slot), slot, input, output_gradient, input_gradient,
                                with_weights, false);
            });
}

void RecordedPasses::backward_weight(int chunk, int micro_batch, int slot, const Tensor& input,
                                     bool last) {
    if (!records() || (last && has_data_ranks_)) {
        return model_.backward_weight(chunk, micro_batch, slot, input, last);
    }
    perform({ActionKind::backward_weight, chunk, slot, input.data, nullptr, nullptr},
            [&] { model_.backward_weight(chunk, entry_of(slot), slot, input, false); });
}

void RecordedPasses::perform(const Key& key, const std::function<void()>& pass) {
    forget_stale_passes();
    std::unique_ptr<RecordedWork>& work = passes_[key];
    try {
        if (!work) work = model_.context().stream().record_work(pass);
    } catch (const Error& error) {
        if (use_ == GraphUse::always) {
            throw Error(error.code(), std::string("device.graphs: always: recording a pass: ") +
                                          error.what() + "; set device.graphs: never");
        }
        // What is wrong with the pass itself, it tells when it is done.
        notice_ = std::string(
                      "device.graphs: passes are enqueued kernel by kernel from here on, "
                      "because recording one failed: ") +
                  error.what();
        mode_ = Mode::off;
        passes_.clear();
        return pass();
    }
    work->enqueue();
}

void RecordedPasses::forget_stale_passes() {
    const uint64_t changes = model_.context().device.memory_changes();
    if (changes == memory_changes_) return;
    passes_.clear();
    memory_changes_ = changes;
}

void RecordedPasses::end_step(double enqueue_seconds, double wait_seconds) {
    if (mode_ == Mode::warm_up) {
        mode_ = use_ == GraphUse::always ? Mode::record : Mode::measure;
        return;
    }
    if (mode_ != Mode::measure) return;
    enqueue_seconds_ += enqueue_seconds;
    wait_seconds_ += wait_seconds;
    if (++measured_steps_ < kMeasuredSteps) return;
    const double share = wait_seconds_ / (enqueue_seconds_ + wait_seconds_);
    mode_ = share < kIdleHostShare ? Mode::record : Mode::off;
    if (mode_ == Mode::off) return;
    notice_ =
        "device.graphs: forward and backward passes are launched as CUDA graphs from here on, "
        "because the GPU waited for this process, which enqueued kernels for " +
        std::to_string(std::lround(100.0 * (1.0 - share))) + "% of the last steps";
}

}  // namespace trireme
