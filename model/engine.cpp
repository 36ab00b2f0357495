#include "model/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>

#include "core/clock.h"
#include "core/error.h"
#include "parallel/activity.h"
#include "parallel/traced_executor.h"

namespace trireme {

namespace {

bool splits_backward(const ScheduleProgram& program) {
    for (const auto& actions : program.ranks) {
        for (const Action& action : actions) {
            if (action.kind == ActionKind::backward_input) return true;
        }
    }
    return false;
}

}  // namespace

Engine::Engine(const ModelContext& context, const EngineOptions& options)
    : context_(context),
      activity_(context_.mesh.world().activity()),
      options_(options),
      zero_stage_(context_.mesh.data_shard().size() > 1 ? options.data_parallel.zero
                                                        : std::min(options.data_parallel.zero, 1)) {
    TRIREME_CHECK(context_.micro_batch_tokens() % context_.context_size() == 0,
                  "tokens that the context ranks can share out evenly");
    const ScheduleProgram program =
        make_schedule(options.pipeline, context.mesh.shape().pipeline, options.micro_batches);
    const std::string error = find_schedule_error(program);
    if (!error.empty()) {
        throw InternalError("schedule " + options.pipeline.schedule + ": " + error);
    }
    model_ = std::make_unique<Model>(context_, program);
    Mesh& mesh = context_.mesh;
    mesh.waits().set_trace(options.trace);
    runtime_ = std::make_unique<PipelineRuntime>(
        context_.device, mesh.pipeline_activations(), mesh.pipeline_gradients(), program,
        context_.compute, Shape{context_.local_tokens(), context_.model.hidden});

    const int shards = zero_stage_ == 0 ? mesh.data().size() : mesh.data_shard().size();
    const double bucket_elements = options.data_parallel.bucket_mib * 1024 * 1024 / sizeof(float);
    for (size_t i = 0; i < model_->chunks().size(); ++i) {
        ModelChunk* chunk = model_->chunks()[i].get();
        const int slots = options.forward_only ? 1 : runtime_->slots(static_cast<int>(i));
        chunk->store().plan(shards, static_cast<int64_t>(bucket_elements), zero_stage_);
        chunk->allocate_parameters(options.forward_only);
        chunk->allocate_activations(slots, !options.forward_only && splits_backward(program),
                                    options.kv_cache);
    }
    if (zero_stage_ >= 3) make_parameter_gatherer(program);
    if (!options.forward_only) make_recorded_passes();
    input_arena_.emplace(
        make_arena(context_.device, "inputs", [&](Arena& arena) { take_inputs(arena); }));
    if (!options.forward_only) {
        make_optimizers();
        DataParallelOptions reduced = options.data_parallel;
        reduced.zero = zero_stage_;
        reduction_ = std::make_unique<GradientReduction>(context_, *model_, reduced);
        register_exchanged_memory();
    }
    // When all memory has been taken: what does not fit is to be known before long work begins.
    if (options.initial_values) draw_initial_values();
    if (options.forward_only) return;
    const bool runs_ahead = context_.device.backend() == Backend::cuda;
    if (!runs_ahead || mesh.shape().pipeline == 1 || !context_.device.keeps_values()) return;
    rehearse(StepInputs::Pass::train);
    // Without dropout, kernels are others.
    if (context_.model.dropout > 0.0f) rehearse(StepInputs::Pass::evaluate);
}

void Engine::take_inputs(Arena& arena) {
    tokens_.clear();
    labels_.clear();
    document_begin_.clear();
    for (int i = 0; i < options_.micro_batches; ++i) {
        tokens_.push_back(arena.take(DType::i32, {context_.tokens()}));
        labels_.push_back(arena.take(DType::i32, {context_.tokens()}));
        document_begin_.push_back(options_.keep_documents_apart
                                      ? arena.take(DType::i32, {context_.micro_batch_tokens()})
                                      : Tensor());
    }
    totals_.all = arena.take(DType::f64, {4});
    own_loss_ = arena.take(DType::f64, {1});
    grad_scale_ = arena.take(DType::f32, {1});
    logits_ = arena.take(DType::f32, {1, context_.local_vocab()});
    all_logits_ = arena.take(DType::f32, {context_.tensor_size(), context_.local_vocab()});
    if (passes_) passes_->take_inputs(arena);
    if (options_.forward_only) {
        token_losses_ = arena.take(DType::f32, {context_.mesh.data().size() * context_.tokens()});
    }
}

void Engine::make_optimizers() {
    state_arena_.emplace(make_arena(context_.device, "optimizer state", [&](Arena& arena) {
        optimizers_.clear();
        for (auto& chunk : model_->chunks()) {
            optimizers_.push_back(
                std::make_unique<Optimizer>(context_, chunk->store(), zero_stage_, arena));
        }
    }));
}

void Engine::draw_initial_values() {
    for (auto& chunk : model_->chunks()) chunk->store().initialise(context_);
    for (auto& optimizer : optimizers_) optimizer->initialise();
}

// What it leaves in gradients and sums is overwritten when a step begins.
void Engine::rehearse(StepInputs::Pass pass) {
    const bool with_backward = pass == StepInputs::Pass::train;
    const std::vector<int32_t> zeros(static_cast<size_t>(context_.micro_batch_tokens()));
    HostMicroBatch micro_batch{.tokens = zeros, .labels = zeros};
    if (options_.keep_documents_apart) micro_batch.document_begin = zeros;
    begin_inputs(pass);
    add_micro_batch(micro_batch);
    std::vector<BucketUse> uses;
    for (const Action& action : runtime_->rehearsal(with_backward)) {
        model_->chunks()[static_cast<size_t>(action.chunk)]->list_uses(action.kind, uses);
    }
    if (gatherer_) gatherer_->begin(uses);
    reduction_->begin_step();
    model_->begin(inputs_, {});
    runtime_->rehearse(*model_, with_backward);
    reduction_->finish({});
    for (auto& chunk : model_->chunks()) chunk->store().forget_gathered();
    if (gatherer_) gatherer_->begin({});
    finish_pass();
}

void Engine::make_parameter_gatherer(const ScheduleProgram& program) {
    const auto& chunks = model_->chunks();
    std::vector<ShardedParameters> shards;
    for (const auto& chunk : chunks) {
        const ParameterStore& store = chunk->store();
        shards.push_back({&store.layout(), store.parameters()});
    }
    gatherer_ = std::make_unique<ParameterGatherer>(context_.device, context_.mesh.data_shard(),
                                                    shards, options_.data_parallel.prefetch);
    for (size_t i = 0; i < chunks.size(); ++i) {
        chunks[i]->store().attach(*gatherer_, static_cast<int>(i));
        chunks[i]->list_uses(ActionKind::forward, forward_uses_);
    }
    for (const Action& action : program.ranks[static_cast<size_t>(context_.mesh.at().pipeline)]) {
        chunks[static_cast<size_t>(action.chunk)]->list_uses(action.kind, step_uses_);
    }
}

void Engine::make_recorded_passes() {
    if (options_.graphs == GraphUse::never) return;
    const std::string obstacle = RecordedPasses::find_obstacle(
        context_, zero_stage_, options_.micro_batches, options_.keep_documents_apart);
    if (obstacle.empty()) {
        passes_ = std::make_unique<RecordedPasses>(*model_, options_.graphs, runtime_->slots());
    } else if (options_.graphs == GraphUse::always) {
        notice_ = "device.graphs: always has no effect: " + obstacle;
    }
}

// What tensor ranks exchange travels from one arena to another: activations, their gradients and
// what is summed for parameters that they share. What context ranks exchange lies in activations
// and scratch. A stage's ranks take the same memory in the same order.
void Engine::register_exchanged_memory() {
    std::vector<const Arena*> of_context;
    for (const auto& chunk : model_->chunks()) {
        for (const Arena* arena : chunk->activation_arenas()) of_context.push_back(arena);
    }
    std::vector<const Arena*> of_tensor = of_context;
    of_tensor.push_back(&runtime_->arena());
    for (const auto& chunk : model_->chunks()) {
        if (const Arena* arena = chunk->gradient_arena()) of_tensor.push_back(arena);
    }
    for (const Arena* arena : reduction_->arenas()) of_tensor.push_back(arena);
    const auto register_with = [](Communicator& group, const std::vector<const Arena*>& arenas) {
        if (group.size() == 1) return;
        for (const Arena* arena : arenas) group.register_memory(arena->memory());
    };
    register_with(context_.mesh.tensor(), of_tensor);
    register_with(context_.mesh.tensor_kv(), of_tensor);
    register_with(context_.mesh.context(), of_context);
}

Engine::~Engine() {
    // The last step's parameters may still be on their way into memory that is freed here. After a
    // failure nobody waits: the ranks are being ended.
    if (std::uncaught_exceptions() > 0) return;
    try {
        for (auto& chunk : model_->chunks()) chunk->store().forget_gathered();
    } catch (const Error&) {
        return;  // another rank has failed, and reports it
    }
}

void Engine::begin_inputs(StepInputs::Pass pass) {
    inputs_.pass = pass;
    inputs_.step = 0;
    inputs_.loss_scale = 1.0f;
    inputs_.tokens.clear();
    inputs_.labels.clear();
    inputs_.document_begin.clear();
    inputs_.first_sample.clear();
    inputs_.span = {};
    inputs_.loss_total = totals_.loss();
    inputs_.logits = logits_;
    inputs_.token_losses = Tensor();
    inputs_.take_logits = {};
}

std::span<const int32_t> Engine::context_part(std::span<const int32_t> micro_batch) const {
    if (micro_batch.empty()) return {};
    TRIREME_CHECK(static_cast<int64_t>(micro_batch.size()) == context_.micro_batch_tokens(),
                  "as many tokens as the micro-batch was planned for");
    return micro_batch.subspan(static_cast<size_t>(context_.context_begin()),
                               static_cast<size_t>(context_.tokens()));
}

void Engine::add_micro_batch(const HostMicroBatch& micro_batch) {
    const size_t i = inputs_.tokens.size();
    TRIREME_CHECK(i < tokens_.size(), "room for every micro-batch");
    const auto copy = [&](std::span<const int32_t> from, const Tensor& to) {
        if (from.empty()) return;
        TRIREME_CHECK(static_cast<int64_t>(from.size()) == to.elements(),
                      "as many tokens as the micro-batch was planned for");
        context_.device.copy_to_device(to.data, from.data(), to.bytes());
    };
    copy(context_part(micro_batch.tokens), tokens_[i]);
    copy(context_part(micro_batch.labels), labels_[i]);
    copy(micro_batch.document_begin, document_begin_[i]);
    inputs_.tokens.push_back(tokens_[i]);
    inputs_.labels.push_back(labels_[i]);
    inputs_.document_begin.push_back(micro_batch.document_begin.empty() ? Tensor()
                                                                        : document_begin_[i]);
    inputs_.first_sample.push_back(micro_batch.first_sample);
}

void Engine::zero_gradients() {
    for (auto& chunk : model_->chunks()) {
        context_.ops().fill_zero(context_.stream(), chunk->store().gradients());
    }
}

double Engine::load(const MicroBatchSource& source) {
    activity_.act("loading data");
    double counted = static_cast<double>(context_.tokens()) * options_.micro_batches *
                     context_.mesh.data().size();
    for (int i = 0; i < options_.micro_batches; ++i) {
        const HostMicroBatch micro_batch = source(i);
        add_micro_batch(micro_batch);
        // A batch of which nothing counts has the loss 0.
        if (micro_batch.counted_tokens) {
            TRIREME_CHECK(!passes_, "a loss of the same scale in every recorded pass");
            counted = static_cast<double>(std::max<int64_t>(*micro_batch.counted_tokens, 1));
        }
    }
    return counted;
}

StepResult Engine::step(int64_t step, double lr, const MicroBatchSource& source,
                        const StepHooks& hooks) {
    Stream& stream = context_.stream();
    Mesh& mesh = context_.mesh;
    mesh.waits().reset();
    zero_gradients();
    begin_inputs(StepInputs::Pass::train);
    const double counted = load(source);
    inputs_.step = step;
    inputs_.loss_scale = static_cast<float>(1.0 / counted);
    context_.ops().fill_zero(stream, totals_.all);
    reduction_->begin_step();
    if (gatherer_) gatherer_->begin(step_uses_);

    model_->begin(inputs_, reduction_->reducers());
    if (passes_) passes_->begin_step(inputs_);
    StageExecutor& stage = passes_ ? static_cast<StageExecutor&>(*passes_) : *model_;
    TracedExecutor executor(stage, options_.trace, activity_);
    const auto begin = std::chrono::steady_clock::now();
    runtime_->run(executor);
    {
        const TraceSpan span(options_.trace, "finish gradients", "data parallel");
        activity_.act("finishing gradients");
        reduction_->finish([&] { model_->sum_tied_gradients(); });
    }

    stream.copy(own_loss_.data, inputs_.loss_total.data, own_loss_.bytes());
    // Every tensor rank has the whole loss: one of them counts it.
    if (context_.tensor_rank() != 0) context_.ops().fill_zero(stream, inputs_.loss_total);
    for (auto& optimizer : optimizers_) optimizer->add_squared_norm(totals_.squared_norm());
    const double own_vote = hooks.vote ? hooks.vote() : 0.0;
    if (own_vote != 0.0) {
        context_.device.copy_to_device(totals_.votes().data, &own_vote, sizeof own_vote);
    }
    activity_.act("agreeing on loss and norm");
    stream.wait(mesh.all().all_reduce(stream, totals_.all, ReduceOp::sum, "loss and norm"));
    PassTotals::Values totals;
    context_.device.copy_to_host(&totals, totals_.all.data, sizeof(totals));
    finish_pass();
    if (passes_) {
        passes_->end_step(seconds_since(begin));
        notice_ += passes_->take_notice();
    }

    StepResult result;
    result.loss = totals.loss / counted;
    result.grad_norm = std::sqrt(totals.squared_norm);
    result.votes = totals.votes;
    result.axis_wait_seconds = mesh.waits().seconds();
    result.updated = result.is_finite() && (!hooks.may_update || hooks.may_update(result));
    if (result.updated) update(step, lr);
    if (gatherer_) gatherer_->begin(step_uses_);  // the next step's first buckets
    return result;
}

void Engine::update(int64_t step, double lr) {
    Stream& stream = context_.stream();
    const TraceSpan span(options_.trace, "optimizer", "optimizer", step);
    activity_.act("optimizer");
    const OptimizerOptions& adam = options_.optimizer;
    context_.ops().clip_scale(stream, totals_.squared_norm(), adam.clip_norm, grad_scale_);
    for (auto& optimizer : optimizers_) {
        optimizer->step({.lr = lr,
                         .beta1 = adam.beta1,
                         .beta2 = adam.beta2,
                         .eps = adam.eps,
                         .weight_decay = adam.weight_decay,
                         .step = step},
                        grad_scale_);
        optimizer->gather_parameters();
    }
}

// Where all that this rank does for a pass has been enqueued.
void Engine::finish_pass() {
    context_.stream().synchronize();
    context_.device.settle();
}

NotFinite Engine::find_not_finite() {
    NotFinite found;
    double value = 0;
    context_.device.copy_to_host(&value, own_loss_.data, sizeof(value));
    context_.stream().synchronize();
    found.loss = !std::isfinite(value);

    for (size_t i = 0; i < model_->chunks().size(); ++i) {
        const ParameterStore& store = model_->chunks()[i]->store();
        for (const int bucket : reduction_->not_finite(i)) {
            for (const int parameter :
                 store.layout().buckets[static_cast<size_t>(bucket)].parameters) {
                found.own.push_back(store.specs()[static_cast<size_t>(parameter)].name);
            }
        }
    }
    const Tensor square = totals_.squared_norm();
    for (auto& optimizer : optimizers_) {
        optimizer->for_each_counted_gradient(
            [&](const ParameterSpec& spec, const Tensor& gradient) {
                context_.ops().fill_zero(context_.stream(), square);
                context_.ops().add_squared_norm(context_.stream(), gradient, square);
                context_.device.copy_to_host(&value, square.data, sizeof(value));
                context_.stream().synchronize();
                if (!std::isfinite(value)) found.summed.push_back(spec.name);
            });
    }
    return found;
}

std::vector<std::pair<std::string, size_t>> Engine::memory() const {
    std::vector<std::pair<std::string, size_t>> labels;
    const auto add = [&](const std::string& label, size_t bytes) {
        const auto same = std::find_if(labels.begin(), labels.end(),
                                       [&](const auto& entry) { return entry.first == label; });
        if (same != labels.end()) {
            same->second += bytes;
        } else {
            labels.emplace_back(label, bytes);
        }
    };
    const auto add_arena = [&](const Arena& arena) { add(arena.label(), arena.used_bytes()); };
    for (const auto& chunk : model_->chunks()) {
        for (const Arena* arena : chunk->arenas()) add_arena(*arena);
    }
    for (const auto* arena : {&state_arena_, &input_arena_}) {
        if (*arena) add_arena(**arena);
    }
    if (reduction_) {
        for (const Arena* arena : reduction_->arenas()) add_arena(*arena);
    }
    if (gatherer_) add_arena(gatherer_->arena());
    add_arena(runtime_->arena());
    return labels;
}

}  // namespace trireme
