#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/model_chunk.h"
#include "parallel/schedule.h"
#include "parallel/stage_executor.h"

namespace trireme {

// This rank's share of the GPT: one chunk a virtual stage. Executes the pipeline's actions.
class Model : public StageExecutor {
public:
    // The context's mesh says which stage; the program which virtual stages that means.
    Model(const ModelContext& context, const ScheduleProgram& program);

    const ModelContext& context() const { return context_; }
    std::vector<std::unique_ptr<ModelChunk>>& chunks() { return chunks_; }

    // The inputs of the coming pass. reducers: one a chunk, told as the gradients become final;
    // empty when there is no backward pass. Both must outlive the pass.
    void begin(const StepInputs& inputs, std::span<GradientReducer* const> reducers);

    void perform(const StageAction& work) override;

    // Whether this rank holds the model's first or last chunk: who reads tokens and labels, and who
    // has the loss.
    bool has_embedding() const;
    bool has_head() const;
    int head_stage() const { return head_stage_; }  // the pipeline rank with the last chunk

    // Sums the gradient of a tied embedding between first and last chunk, each of which has seen
    // one of its two uses, and releases it to the reducers. After the pipeline's program.
    void sum_tied_gradients();

private:
    ModelContext context_;
    int head_stage_;
    std::vector<std::unique_ptr<ModelChunk>> chunks_;
    const StepInputs* inputs_ = nullptr;
    std::span<GradientReducer* const> reducers_;
};

}  // namespace trireme
