#include "parallel/pipeline_runtime.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "parallel/schedule_plan.h"

namespace trireme {

namespace {

const char* label_of(MessageKind kind) {
    return kind == MessageKind::activation ? "activation" : "output gradient";
}

// Memory for what crosses a stage boundary, and the transfer it was last used for.
struct Buffer {
    Tensor tensor;
    Event transfer;
};

// A chunk's neighbours in a pass without backward.
struct ForwardLink {
    int source = RankPlan::kNone;  // rank that sends the input; kNone where the model begins
    int target = RankPlan::kNone;
};

}  // namespace

struct PipelineRuntime::State {
    State(Device& device_, Communicator& activations_, Communicator& gradients_,
          const ScheduleProgram& program, DType type, Shape boundary)
        : device(device_),
          activations(activations_),
          gradients(gradients_),
          rank(activations_.rank()),
          plan(plan_rank(program, rank)),
          buffers(static_cast<size_t>(plan.buffers)) {
        for (RankPlan::Step step : plan.steps) {
            step.action.micro_batch = 0;
            step.slot = 0;
            step.last = false;
            const auto is_same = [&](const auto& known) { return known.action == step.action; };
            if (std::none_of(rehearsal.begin(), rehearsal.end(), is_same)) {
                rehearsal.push_back(step);
            }
        }
        const auto take = [&](Arena& to) {
            for (Buffer& buffer : buffers) buffer.tensor = to.take(type, boundary);
        };
        arena.emplace(make_arena(device, "pipeline buffers", take));
        activations.register_memory(arena->memory());
        gradients.register_memory(arena->memory());
        for (int chunk = 0; chunk < program.chunks; ++chunk) {
            const Action forward{ActionKind::forward, chunk, 0};
            const int source = program.source_of(rank, forward);
            const int target = program.target_of(rank, forward);
            ForwardLink link;
            if (source >= 0) link.source = program.rank_of(source);
            if (target >= 0) link.target = program.rank_of(target);
            links.push_back(link);
            if (source >= 0 && link.source != rank) senders.push_back(link.source);
        }
    }

    Buffer& buffer(int number) { return buffers[static_cast<size_t>(number)]; }
    Tensor tensor(int number) const {
        return number == RankPlan::kNone ? Tensor() : buffers[static_cast<size_t>(number)].tensor;
    }

    void wait(int number) { device.compute().wait(buffer(number).transfer); }
    Communicator& carrier_of(MessageKind kind) {
        return kind == MessageKind::gradient ? gradients : activations;
    }
    void receive(MessageKind kind, int number, int peer) {
        Buffer& to = buffer(number);
        to.transfer = carrier_of(kind).recv(device.compute(), to.tensor, peer, label_of(kind));
    }
    void send(MessageKind kind, int number, int peer) {
        Buffer& from = buffer(number);
        from.transfer = carrier_of(kind).send(device.compute(), from.tensor, peer, label_of(kind));
    }

    void perform(const RankPlan::Step& step, StageExecutor& executor);
    void execute(const RankPlan::Step& step, StageExecutor& executor);
    void post_forward_receives(int64_t up_to);

    Device& device;
    Communicator& activations;
    Communicator& gradients;
    const int rank;
    const RankPlan plan;
    std::vector<RankPlan::Step> rehearsal;
    std::vector<Buffer> buffers;
    std::optional<Arena> arena;
    std::vector<ForwardLink> links;  // of each chunk
    std::vector<int> senders;        // of the inputs from other ranks, in chunk order
    int64_t forward_posted = 0;
    bool running = false;
};

PipelineRuntime::PipelineRuntime(Device& device, Communicator& activations, Communicator& gradients,
                                 const ScheduleProgram& program, DType boundary_type,
                                 Shape boundary) {
    TRIREME_CHECK(activations.size() == program.stages && gradients.size() == program.stages &&
                      activations.rank() == gradients.rank(),
                  "a pipeline communicator with one rank a stage");
    state_ =
        std::make_unique<State>(device, activations, gradients, program, boundary_type, boundary);
}

PipelineRuntime::~PipelineRuntime() {
    if (state_->running) return;
    try {
        for (const Buffer& buffer : state_->buffers) {
            state_->device.compute().wait(buffer.transfer);
        }
        state_->device.compute().synchronize();
    } catch (...) {
        // The carrier has failed and touches no buffer any more.
    }
}

int PipelineRuntime::slots(int chunk) const {
    return state_->plan.slots[static_cast<size_t>(chunk)];
}

int PipelineRuntime::slots() const {
    return *std::max_element(state_->plan.slots.begin(), state_->plan.slots.end());
}

const Arena& PipelineRuntime::arena() const {
    return *state_->arena;
}

std::vector<Action> PipelineRuntime::rehearsal(bool with_backward) const {
    std::vector<Action> actions;
    for (const RankPlan::Step& step : state_->rehearsal) {
        const bool is_forward = step.action.kind == ActionKind::forward;
        if (is_forward || with_backward) actions.push_back(step.action);
    }
    return actions;
}

void PipelineRuntime::rehearse(StageExecutor& executor, bool with_backward) {
    for (const RankPlan::Step& step : state_->rehearsal) {
        const bool is_forward = step.action.kind == ActionKind::forward;
        if (is_forward || with_backward) state_->execute(step, executor);
    }
}

void PipelineRuntime::run(StageExecutor& executor) {
    TRIREME_CHECK(!state_->running, "no run after one that failed");
    state_->running = true;
    for (const RankPlan::Step& step : state_->plan.steps) state_->perform(step, executor);
    state_->running = false;
}

void PipelineRuntime::State::perform(const RankPlan::Step& step, StageExecutor& executor) {
    for (int i = step.first_receive; i < step.first_receive + step.n_receives; ++i) {
        const RankPlan::Receive& next = plan.receives[static_cast<size_t>(i)];
        receive(next.kind, next.buffer, next.peer);
    }
    const bool is_forward = step.action.kind == ActionKind::forward;
    if (step.receives_from != RankPlan::kNone) wait(is_forward ? step.input : step.output_gradient);
    if (step.sends_to != RankPlan::kNone) wait(step.result);

    execute(step, executor);
    if (step.sends_to != RankPlan::kNone) {
        send(message_of(step.action.kind), step.result, step.sends_to);
    }
}

void PipelineRuntime::State::execute(const RankPlan::Step& step, StageExecutor& executor) {
    executor.perform({.action = step.action,
                      .slot = step.slot,
                      .input = tensor(step.input),
                      .result = tensor(step.result),
                      .output_gradient = tensor(step.output_gradient),
                      .last = step.last});
}

void PipelineRuntime::State::post_forward_receives(int64_t up_to) {
    const int64_t n_senders = static_cast<int64_t>(senders.size());
    for (; forward_posted < up_to; ++forward_posted) {
        receive(MessageKind::activation, plan.forward_in[static_cast<size_t>(forward_posted % 2)],
                senders[static_cast<size_t>(forward_posted % n_senders)]);
    }
}

void PipelineRuntime::run_forward(StageExecutor& executor, int micro_batches) {
    State& state = *state_;
    TRIREME_CHECK(!state.running, "no run after one that failed");
    state.running = true;
    state.forward_posted = 0;
    const int64_t receives = static_cast<int64_t>(state.senders.size()) * micro_batches;
    int64_t received = 0, sent = 0, handed_over = 0;
    for (int i = 0; i < micro_batches; ++i) {
        for (size_t chunk = 0; chunk < state.links.size(); ++chunk) {
            const ForwardLink& link = state.links[chunk];
            int in = RankPlan::kNone, out = RankPlan::kNone;
            if (link.source == state.rank) {
                in = state.plan.forward_local[static_cast<size_t>((handed_over - 1) % 2)];
            } else if (link.source != RankPlan::kNone) {
                state.post_forward_receives(std::min(receives, received + 2));
                in = state.plan.forward_in[static_cast<size_t>(received++ % 2)];
                state.wait(in);
            }
            if (link.target == state.rank) {
                out = state.plan.forward_local[static_cast<size_t>(handed_over++ % 2)];
            } else if (link.target != RankPlan::kNone) {
                out = state.plan.forward_out[static_cast<size_t>(sent++ % 2)];
                state.wait(out);
            }
            executor.perform({.action = {ActionKind::forward, static_cast<int>(chunk), i},
                              .input = state.tensor(in),
                              .result = state.tensor(out)});
            if (link.target != RankPlan::kNone && link.target != state.rank) {
                state.send(MessageKind::activation, out, link.target);
            }
        }
    }
    state.running = false;
}

}  // namespace trireme
