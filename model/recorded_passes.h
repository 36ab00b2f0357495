#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "model/model.h"
#include "parallel/stage_executor.h"

namespace trireme {

// Executes a model's passes as work that was recorded once (a CUDA graph), so that the host
// enqueues a pass at once instead of kernel after kernel. That pays where kernels are so short that
// the GPU waits for the host. The same kernels do the same on the same memory.
//
// Passes are recorded between steps, once an ordinary step has shown which there are, allocated all
// they need and chosen all algorithms; and again when memory has been taken or given back since.
// With data ranks a chunk's first forward of a step runs as usual, because parameters may still
// arrive, and its last backward, because gradients travel behind it.
class RecordedPasses final : public StageExecutor {
public:
    // Why passes cannot be recorded; empty where they can: with communication or numbers of the
    // host in them they are not the same in every step. zero_stage: the one that takes effect.
    static std::string find_obstacle(const ModelContext& context, int zero_stage, int micro_batches,
                                     bool documents_apart);

    // use: not never. where_faster: steps 2 to 4 are timed as usual, three more with recorded
    // passes, and the faster way is kept. slots: the most that any chunk of the model has. The
    // model must outlive this.
    RecordedPasses(Model& model, GraphUse use, int slots);
    // Where a recorded pass finds its micro-batch.
    void take_inputs(Arena& arena);

    // Before a step's passes, while no other stage is waited for. Adds an entry for each slot to
    // the inputs, which must outlive them.
    void begin_step(StepInputs& inputs);
    void perform(const StageAction& work) override;
    // How long the step took from its first pass until the device had done it.
    void end_step(double seconds);

    bool records() const { return mode_ == Mode::try_recorded || mode_ == Mode::record; }
    // What there is to say about a decision since the last call, or nothing.
    std::string take_notice() { return std::exchange(notice_, {}); }

private:
    enum class Mode { warm_up, time_usual, try_recorded, record, off };
    // Everything in which one pass may differ from another.
    struct Key {
        ActionKind kind;
        int chunk;
        int slot;
        const void* input;
        const void* output_gradient;
        const void* result;
        auto operator<=>(const Key&) const = default;
    };
    struct Pass {
        StageAction work;  // with the slot's entry for the micro-batch
        std::unique_ptr<RecordedWork> recorded;
    };

    // The micro-batch's, to the slot's entry.
    void copy_inputs(const StageAction& work);
    void perform_recorded(const StageAction& work);
    void record_passes();
    void decide();
    // In the step's inputs.
    int entry_of(int slot) const { return micro_batches_ + slot; }

    Model& model_;
    const GraphUse use_;
    const int slots_;
    const bool has_data_ranks_;
    std::vector<Tensor> tokens_, labels_;  // of each slot: [B * T] i32
    std::vector<char> runs_first_;         // of each chunk: the next forward is the step's first
    StepInputs* inputs_ = nullptr;
    int micro_batches_ = 0;
    std::map<Key, Pass> passes_;
    uint64_t memory_changes_ = 0;  // of the device, when the passes were recorded
    Mode mode_ = Mode::warm_up;
    int steps_in_mode_ = 0;
    double usual_seconds_, recorded_seconds_;  // the shortest step of each kind
    std::string notice_;
};

}  // namespace trireme
