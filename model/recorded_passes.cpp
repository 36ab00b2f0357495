#include "model/recorded_passes.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>

namespace trireme {

namespace {

constexpr int kTimedSteps = 3;
// Less gain than this is not told from chance, and not worth the graphs' memory.
constexpr double kLeastGain = 0.01;

}  // namespace

std::string RecordedPasses::find_obstacle(const ModelContext& context, int zero_stage,
                                          int micro_batches, bool documents_apart) {
    if (context.device.backend() != Backend::cuda) return "the device is no GPU";
    if (context.tensor_size() > 1) return "with mesh.tensor > 1 a pass communicates";
    if (context.context_size() > 1) return "with mesh.context > 1 a pass communicates";
    if (zero_stage >= 2) return "with data_parallel.zero 2 and 3 a pass communicates";
    if (context.model.dropout > 0.0f) return "with model.dropout > 0 no two passes are the same";
    if (documents_apart) {
        return "with data.keep_documents_apart no two steps weigh a token alike";
    }
    if (context.mesh.shape().data > 1 && micro_batches == 1) {
        return "with mesh.data > 1 and one micro-batch a step, parameters or gradients travel "
               "beside each pass";
    }
    return "";
}

RecordedPasses::RecordedPasses(Model& model, GraphUse use, int slots)
    : model_(model),
      use_(use),
      slots_(slots),
      has_data_ranks_(model.context().mesh.shape().data > 1),
      usual_seconds_(std::numeric_limits<double>::infinity()),
      recorded_seconds_(usual_seconds_) {}

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
    if (!records()) return;
    try {
        record_passes();
    } catch (const Error& error) {
        const std::string reason = std::string("recording a pass: ") + error.what();
        if (use_ == GraphUse::always) {
            throw Error(error.code(),
                        "device.graphs: always: " + reason + "; set device.graphs: never");
        }
        notice_ =
            "device.graphs: passes are enqueued kernel by kernel from here on, because of an "
            "error while " +
            reason;
        mode_ = Mode::off;
        passes_.clear();
    }
}

void RecordedPasses::record_passes() {
    const ModelContext& context = model_.context();
    const uint64_t changes = context.device.memory_changes();
    if (changes != memory_changes_) {
        for (auto& [key, pass] : passes_) pass.recorded.reset();
    }
    memory_changes_ = changes;
    bool is_first = true;
    for (auto& [key, pass] : passes_) {
        if (pass.recorded) continue;
        // A pass waits for parameters that still arrive, which cannot be recorded.
        if (std::exchange(is_first, false)) {
            for (auto& chunk : model_.chunks()) chunk->store().forget_gathered();
        }
        const StageAction& work = pass.work;
        pass.recorded = context.stream().record_work([&] { model_.perform(work); });
    }
}

void RecordedPasses::perform(const StageAction& work) {
    if (mode_ == Mode::off) return model_.perform(work);
    const bool is_forward = work.action.kind == ActionKind::forward;
    if (work.last && has_data_ranks_) return model_.perform(work);
    if (is_forward) copy_inputs(work);

    StageAction pass = work;
    pass.action.micro_batch = entry_of(work.slot);
    // Gradients that do not travel need not be reported as they become final.
    pass.last = false;
    char& runs_first = runs_first_[static_cast<size_t>(work.action.chunk)];
    if (is_forward && std::exchange(runs_first, 0) != 0 && has_data_ranks_) {
        return model_.perform(pass);
    }
    perform_recorded(pass);
}

void RecordedPasses::copy_inputs(const StageAction& work) {
    const ModelContext& context = model_.context();
    const ChunkRange& range = model_.chunks()[static_cast<size_t>(work.action.chunk)]->range();
    const auto copy = [&](const std::vector<Tensor>& of_step) {
        context.ops().copy(context.stream(), of_step[static_cast<size_t>(work.action.micro_batch)],
                           of_step[static_cast<size_t>(entry_of(work.slot))]);
    };
    if (range.has_embedding) copy(inputs_->tokens);
    if (range.has_head) copy(inputs_->labels);
}

void RecordedPasses::perform_recorded(const StageAction& work) {
    Pass& pass = passes_[{work.action.kind, work.action.chunk, work.slot, work.input.data,
                          work.output_gradient.data, work.result.data}];
    pass.work = work;
    // Memory that has changed hands since the step began may be what a recorded pass uses.
    const bool is_valid = model_.context().device.memory_changes() == memory_changes_;
    if (records() && pass.recorded && is_valid) {
        pass.recorded->enqueue();
    } else {
        model_.perform(work);
    }
}

void RecordedPasses::end_step(double seconds) {
    ++steps_in_mode_;
    const auto enter = [&](Mode mode) {
        mode_ = mode;
        steps_in_mode_ = 0;
    };
    switch (mode_) {
        case Mode::warm_up:
            enter(use_ == GraphUse::always ? Mode::record : Mode::time_usual);
            break;
        case Mode::time_usual:
            usual_seconds_ = std::min(usual_seconds_, seconds);
            if (steps_in_mode_ == kTimedSteps) enter(Mode::try_recorded);
            break;
        case Mode::try_recorded:
            recorded_seconds_ = std::min(recorded_seconds_, seconds);
            if (steps_in_mode_ == kTimedSteps) decide();
            break;
        case Mode::record:
        case Mode::off:
            break;
    }
}

void RecordedPasses::decide() {
    if (recorded_seconds_ > (1.0 - kLeastGain) * usual_seconds_) {
        mode_ = Mode::off;
        passes_.clear();
        return;
    }
    mode_ = Mode::record;
    char text[160];
    std::snprintf(text, sizeof text,
                  "device.graphs: passes are launched as CUDA graphs from here on: a step takes "
                  "%.1f ms instead of %.1f ms",
                  1e3 * recorded_seconds_, 1e3 * usual_seconds_);
    notice_ = text;
}

}  // namespace trireme
