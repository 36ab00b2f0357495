#include <catch2/catch.hpp>

#include <algorithm>
#include <optional>
#include <vector>

#include "parallel/pipeline_runtime.h"
#include "tests/model/training_support.h"

// The two halves of backward run apart, in the order of a zero-bubble schedule, against both in
// one.

namespace trireme::test {

namespace {

constexpr int kMicroBatches = 3;

ScheduleProgram program_of(int stages, bool split) {
    ScheduleProgram program = make_schedule("gpipe", stages, 1, kMicroBatches);
    if (!split) return program;
    for (auto& actions : program.ranks) {
        std::vector<Action> halves, weights;
        for (const Action& action : actions) {
            if (action.kind != ActionKind::backward) {
                halves.push_back(action);
                continue;
            }
            halves.push_back({ActionKind::backward_input, action.chunk, action.micro_batch});
            weights.push_back({ActionKind::backward_weight, action.chunk, action.micro_batch});
        }
        // One weight half early, the others when all input gradients are sent.
        halves.insert(halves.end() - 1, weights.front());
        halves.insert(halves.end(), weights.begin() + 1, weights.end());
        actions = halves;
    }
    return program;
}

// All gradients of every rank, in rank order. scenario.zero 3 opens and closes gradients and
// gathers parameters as among several data ranks, here with one.
std::vector<float> gradients_of(const Scenario& scenario, bool split) {
    std::vector<std::vector<float>> by_rank(static_cast<size_t>(scenario.mesh.ranks()));
    run_thread_ranks(scenario.mesh.ranks(), [&](World& world) {
        const auto device = make_device({.backend = Backend::cpu, .threads = 1}, 0, 1);
        Mesh mesh(world, scenario.mesh, kv_groups(scenario.model, scenario.mesh.tensor));
        const ModelContext context = context_of(scenario, *device, mesh);
        const ScheduleProgram program = program_of(scenario.mesh.pipeline, split);
        const std::string error = find_schedule_error(program);
        if (!error.empty()) throw InternalError(error);
        Model model(context, program);
        PipelineRuntime runtime(*device, mesh.pipeline_activations(), mesh.pipeline_gradients(),
                                program, context.compute,
                                Shape{context.local_tokens(), context.model.hidden});
        ModelChunk& chunk = *model.chunks().front();
        chunk.store().plan(1, 1 << 20, scenario.zero);
        chunk.allocate_parameters(false);
        chunk.store().initialise(context);
        std::optional<GradientSharder> sharder;
        std::optional<ParameterGatherer> gatherer;
        std::vector<BucketUse> uses;
        if (scenario.zero == 3) {
            ParameterStore& store = chunk.store();
            const DataParallelOptions options{.zero = 3};
            const GradientGroups groups{mesh.data(), mesh.data(), mesh.tensor(), mesh.tensor_kv()};
            sharder.emplace(
                *device, groups,
                std::vector<ChunkGradients>{{store.specs(), &store.layout(), store.gradients()}},
                options);
            gatherer.emplace(*device, mesh.data(),
                             std::vector<ShardedParameters>{{&store.layout(), store.parameters()}},
                             options.prefetch);
            store.attach(*sharder, 0);
            store.attach(*gatherer, 0);
            for (const Action& action : program.ranks[static_cast<size_t>(mesh.at().pipeline)]) {
                chunk.list_uses(action.kind, uses);
            }
        }
        chunk.allocate_activations(runtime.slots(0), split, false);

        TokenSource source(scenario, 0, 1);
        const auto& batches = source.step(1);
        double loss = 0.0;
        StepInputs inputs;
        inputs.step = 1;
        inputs.loss_scale = 0.01f;
        inputs.loss_total = Tensor(&loss, DType::f64, {1});
        for (const HostMicroBatch& batch : batches) {
            const auto view = [](std::span<const int32_t> tokens) {
                return Tensor(const_cast<int32_t*>(tokens.data()), DType::i32,
                              {static_cast<int64_t>(tokens.size())});
            };
            inputs.tokens.push_back(view(batch.tokens));
            inputs.labels.push_back(view(batch.labels));
            inputs.first_sample.push_back(batch.first_sample);
        }
        device->ops().fill_zero(device->compute(), chunk.store().gradients());
        model.begin(inputs, {});
        if (gatherer) gatherer->begin(uses);
        runtime.run(model);
        if (sharder) sharder->finish();
        const Tensor gradients = chunk.store().gradients();
        const float* values = gradients.as<float>();
        by_rank[static_cast<size_t>(world.rank())].assign(values, values + gradients.elements());
        mesh.all().barrier();
    });
    std::vector<float> all;
    for (const auto& values : by_rank) all.insert(all.end(), values.begin(), values.end());
    return all;
}

}  // namespace

TEST_CASE("backward in two halves gives the bits of backward in one", "[model][backward]") {
    for (const ModelOptions& model : {odd_model(Family::gpt2), odd_model(Family::llama),
                                      with_additions(odd_model(Family::llama))}) {
        for (const MeshShape& mesh : {MeshShape{}, MeshShape{.tensor = 2, .pipeline = 2}}) {
            for (const float dropout : {0.0f, 0.1f}) {
                for (const bool sequence_parallel : {false, true}) {
                    Scenario scenario;
                    scenario.model = model;
                    scenario.model.dropout = dropout;
                    scenario.mesh = mesh;
                    scenario.sequence_parallel = sequence_parallel;
                    scenario.global_batch = kMicroBatches;
                    scenario.zero = 0;
                    scenario.pieces = dropout > 0.0f ? 4 : 1;
                    INFO(scenario.name() << ", dropout " << dropout);
                    const std::vector<float> whole = gradients_of(scenario, false);
                    const std::vector<float> split = gradients_of(scenario, true);
                    CHECK(std::any_of(whole.begin(), whole.end(),
                                      [](float value) { return value != 0.0f; }));
                    CHECK(whole == split);
                    scenario.zero = 3;
                    CHECK(gradients_of(scenario, false) == gradients_of(scenario, true));
                }
            }
        }
    }
}

}  // namespace trireme::test
